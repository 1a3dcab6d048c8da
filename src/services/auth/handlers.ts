/** auth's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AccountStatus, AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { during } from "../../db/database.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { implement } from "../../service.ts";
import { disableAccount, enableAccount, endUserSessions } from "./account-status.ts";
import { type Account, getAccount, register } from "./accounts.ts";
import { changeEmail, verifyEmail } from "./email-verifications.ts";
import { listEndedSessions } from "./ended-sessions.ts";
import { accountKind } from "./events.ts";
import { login } from "./logins.ts";
import { requestPasswordReset, resendVerification } from "./mail-requests.ts";
import { changePassword } from "./password-changes.ts";
import { resetPassword, sendPasswordReset } from "./password-resets.ts";
import { refresh } from "./refreshes.ts";
import type { AuthContext } from "./service.ts";
import { endOtherSessions, endSession, listSessions, logout, type Tokens } from "./sessions.ts";

export function authHandlers(auth: AuthContext) {
  return [publicHandlers(auth), internalHandlers(auth)];
}

function publicHandlers(auth: AuthContext) {
  const { db } = auth;
  return implement(AuthService, {
    async registerUser(request, context) {
      return { userId: await register(auth, scopeOf(context), { ...request, kind: "user", stageName: "" }) };
    },
    async registerArtist(request, context) {
      return { userId: await register(auth, scopeOf(context), { ...request, kind: "artist" }) };
    },
    async login(request, context) {
      return packTokens(await login(auth, scopeOf(context), request));
    },
    async refreshToken(request, context) {
      return packTokens(await refresh(auth, scopeOf(context), request));
    },
    async logout({ refreshToken }, context) {
      await logout(db, scopeOf(context), refreshToken);
      return {};
    },
    async listSessions(_, context) {
      const sessions = await listSessions(auth, scopeOf(context), userOf(context));
      return {
        sessions: sessions.map(({ id: sessionId, userAgent, address, createdAt, lastUsedAt, expiresAt, current }) => ({
          ...{ sessionId, userAgent, address, current },
          createdAt: timestampFromDate(createdAt),
          lastUsedAt: timestampFromDate(lastUsedAt),
          expiresAt: timestampFromDate(expiresAt),
        })),
      };
    },
    async endSession({ sessionId }, context) {
      await endSession(db, scopeOf(context), userOf(context), sessionId);
      return {};
    },
    async endOtherSessions(_, context) {
      return { ended: await endOtherSessions(db, scopeOf(context), userOf(context)) };
    },
    async changePassword(request, context) {
      return packTokens(await changePassword(auth, scopeOf(context), userOf(context), request));
    },
    async verifyEmail(request, context) {
      await verifyEmail(auth, scopeOf(context), request);
      return {};
    },
    async resendVerification({ email }, context) {
      await resendVerification(auth, scopeOf(context), email);
      return {};
    },
    async requestPasswordReset({ email }, context) {
      await requestPasswordReset(auth, scopeOf(context), email);
      return {};
    },
    async resetPassword(request, context) {
      await resetPassword(auth, scopeOf(context), request);
      return {};
    },
    async changeEmail(request, context) {
      await changeEmail(auth, scopeOf(context), userOf(context), request);
      return {};
    },
  });
}

function internalHandlers(auth: AuthContext) {
  const { db, isLive } = auth;
  return implement(AuthInternalService, {
    async getAccount({ userId }, { signal }) {
      return { account: packAccount(await getAccount(during(db, signal), userId)) };
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
    async endUserSessions({ userId }, context) {
      return { ended: await endUserSessions(db, scopeOf(context), userId) };
    },
    async disableAccount({ userId }, context) {
      await disableAccount(db, scopeOf(context), userId);
      return {};
    },
    async enableAccount({ userId }, context) {
      await enableAccount(db, scopeOf(context), userId);
      return {};
    },
    async sendPasswordReset({ userId }, context) {
      await sendPasswordReset(auth, scopeOf(context), userId);
      return {};
    },
  });
}

function packTokens({ accessTokenExpiresAt, ...tokens }: Tokens) {
  return { ...tokens, accessTokenExpiresAt: timestampFromDate(accessTokenExpiresAt) };
}

function packAccount(account: Account) {
  const { id: userId, email, firstName, lastName, locale, stageName, createdAt, status, emailVerifiedAt } = account;
  return {
    ...{ userId, email, firstName, lastName, locale, stageName },
    createdAt: timestampFromDate(createdAt),
    emailVerifiedAt: emailVerifiedAt ? timestampFromDate(emailVerifiedAt) : undefined,
    kind: accountKind(account),
    status: status === "active" ? AccountStatus.ACTIVE : AccountStatus.DISABLED,
  };
}
