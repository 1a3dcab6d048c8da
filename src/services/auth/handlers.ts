/** auth's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { during } from "../../db/database.ts";
import { scopeOf } from "../../rpc/call.ts";
import { implement } from "../../service.ts";
import { getAccount, registerUser } from "./accounts.ts";
import { listEndedSessions } from "./ended-sessions.ts";
import type { AuthContext } from "./service.ts";
import { login, logout } from "./sessions.ts";

export function authHandlers(auth: AuthContext) {
  const { db, isLive } = auth;
  return [
    implement(AuthService, {
      async registerUser(request, context) {
        return { userId: await registerUser(auth, scopeOf(context), request) };
      },
      async login(request, context) {
        const { accessTokenExpiresAt, ...session } = await login(auth, scopeOf(context), request);
        return { ...session, accessTokenExpiresAt: timestampFromDate(accessTokenExpiresAt) };
      },
      async logout({ refreshToken }, context) {
        await logout(db, scopeOf(context), refreshToken);
        return {};
      },
    }),
    implement(AuthInternalService, {
      async getAccount({ userId }, { signal }) {
        const { id, email, firstName, lastName, locale, createdAt } = await getAccount(during(db, signal), userId);
        return { account: { userId: id, email, firstName, lastName, locale, createdAt: timestampFromDate(createdAt) } };
      },
      async checkSession({ sessionId, generation }, { signal }) {
        return { live: await isLive(sessionId, generation, signal) };
      },
      async listEndedSessions(request, { signal }) {
        const { sessions, nextPageToken, start, settledPosition } = await listEndedSessions(auth, signal, request);
        const packed = sessions.map(({ sessionId, tokensExpireAt }) => ({
          sessionId,
          tokensExpireAt: timestampFromDate(tokensExpireAt),
        }));
        return { sessions: packed, nextPageToken, start, settledPosition };
      },
    }),
  ];
}
