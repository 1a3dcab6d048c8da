/** auth's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { scopeOf } from "../../rpc/call.ts";
import { implement } from "../../service.ts";
import { getAccount, registerUser } from "./accounts.ts";
import { login, logout, type SessionStarter } from "./sessions.ts";

export function authHandlers(
  starter: SessionStarter,
  isLive: (sessionId: string, generation: number) => Promise<boolean>,
) {
  const { db } = starter;
  return [
    implement(AuthService, {
      async registerUser(request, context) {
        return { userId: await registerUser(starter, scopeOf(context), request) };
      },
      async login(request, context) {
        const { accessTokenExpiresAt, ...session } = await login(starter, scopeOf(context), request);
        return { ...session, accessTokenExpiresAt: timestampFromDate(accessTokenExpiresAt) };
      },
      async logout({ refreshToken }) {
        await logout(db, refreshToken);
        return {};
      },
    }),
    implement(AuthInternalService, {
      async getAccount({ userId }) {
        const { id, email, firstName, lastName, locale, createdAt } = await getAccount(db, userId);
        return { account: { userId: id, email, firstName, lastName, locale, createdAt: timestampFromDate(createdAt) } };
      },
      async checkSession({ sessionId, generation }) {
        return { live: await isLive(sessionId, generation) };
      },
    }),
  ];
}
