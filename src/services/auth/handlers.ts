/** auth's RPCs: unpack, call one domain function, pack. */
import { timestampDate, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import {
  AccountStatus,
  AuthInternalService,
  AuthService,
  ImportResult,
  SecurityEventActor,
} from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { during } from "../../db/database.ts";
import { toConsistencyToken } from "../../rights/revisions.ts";
import { packRights } from "../../rights/rights.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { requireRecentLogin } from "../../rpc/recent-login.ts";
import { implement } from "../../service.ts";
import { disableAccount, enableAccount, endUserSessions } from "./account-status.ts";
import { type Account, getAccount, register } from "./accounts.ts";
import { verifyAuditLog } from "./audit-chain.ts";
import { type AuditRow, listAuditEntries, listSecurityEvents, type SecurityEvent } from "./audit-entries.ts";
import { deleteAccount, deleteMyAccount } from "./deletions.ts";
import { changeEmail, verifyEmail } from "./email-verifications.ts";
import { listEndedSessions } from "./ended-sessions.ts";
import { accountKind } from "./events.ts";
import { exportAccount } from "./exports.ts";
import { type ImportOutcome, importUsers } from "./imports.ts";
import { legacyHandlers } from "./legacy-handlers.ts";
import { login } from "./logins.ts";
import { requestPasswordReset, resendVerification } from "./mail-requests.ts";
import { removeSigningKey } from "./own-keys.ts";
import { packEndedSessions } from "./own-sessions.ts";
import { changePassword } from "./password-changes.ts";
import { resetPassword, sendPasswordReset } from "./password-resets.ts";
import { refresh } from "./refreshes.ts";
import type { AuthContext } from "./service.ts";
import { endOtherSessions, endSession, listSessions, logout, type Tokens } from "./sessions.ts";
import { requireToken, type VerifiedToken } from "./token-verifications.ts";

const SECURITY_EVENT_ACTORS = {
  anybody: SecurityEventActor.ANYBODY,
  owner: SecurityEventActor.OWNER,
  administrator: SecurityEventActor.ADMINISTRATOR,
};

export function authHandlers(auth: AuthContext) {
  return [publicHandlers(auth), internalHandlers(auth), legacyHandlers(auth)];
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
      const { deviceToken, ...tokens } = await login(auth, scopeOf(context), request);
      return { ...packTokens(tokens), deviceToken };
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
      const { deviceToken, ...tokens } = await changePassword(auth, scopeOf(context), userOf(context), request);
      return { ...packTokens(tokens), deviceToken };
    },
    async deleteMyAccount({ currentPassword }, context) {
      await deleteMyAccount(auth, scopeOf(context), userOf(context), currentPassword);
      return {};
    },
    async exportMyData(_, context) {
      requireRecentLogin(context, auth.clock);
      return { document: await exportAccount(auth, scopeOf(context), userOf(context)) };
    },
    async listMySecurityEvents(request, context) {
      const { events, nextPageToken } = await listSecurityEvents(db, scopeOf(context), userOf(context), request);
      return { events: events.map(packSecurityEvent), nextPageToken };
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
    async verifyToken({ accessToken }, context) {
      return packVerifiedToken(await requireToken(auth, context, accessToken));
    },
    async checkSession({ sessionId, generation }, { signal }) {
      return { live: await isLive(sessionId, generation, signal) };
    },
    async listEndedSessions(request, { signal }) {
      return packEndedSessions(await listEndedSessions(auth, signal, request));
    },
    async endUserSessions({ userId }, context) {
      return { ended: await endUserSessions(db, scopeOf(context), userId) };
    },
    async removeSigningKey({ keyId }, context) {
      await removeSigningKey(auth, scopeOf(context), keyId);
      return {};
    },
    async disableAccount({ userId }, context) {
      await disableAccount(db, scopeOf(context), userId);
      return {};
    },
    async enableAccount({ userId }, context) {
      await enableAccount(auth, scopeOf(context), userId);
      return {};
    },
    async deleteAccount({ userId }, context) {
      await deleteAccount(auth, scopeOf(context), userId);
      return {};
    },
    async importUsers({ users }, context) {
      const unpacked = users.map(({ $typeName: _, kind, ...user }) => {
        return { ...user, kind: kind === AccountKind.ARTIST ? ("artist" as const) : ("user" as const) };
      });
      return { outcomes: (await importUsers(db, scopeOf(context), unpacked)).map(packOutcome) };
    },
    async listAuditEntries({ since, ...request }, { signal }) {
      const query = { ...request, since: since && timestampDate(since) };
      const { entries, nextPageToken } = await listAuditEntries(during(db, signal), query);
      return { entries: entries.map(packAuditEntry), nextPageToken };
    },
    async verifyAuditLog({ position }, { signal }) {
      return verifyAuditLog(during(db, signal), position);
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

function packVerifiedToken({ claims, card, organizationId, rights, freshAt, revisions }: VerifiedToken) {
  const { userId, sessionId, expiresAt } = claims;
  const { email, firstName, lastName, status } = card;
  return {
    ...{ userId, sessionId, email, firstName, lastName, active: status === "active", organizationId },
    rights: rights && packRights(rights),
    expiresAt: timestampFromMs(expiresAt * 1_000),
    freshAt: timestampFromDate(freshAt),
    consistencyToken: toConsistencyToken(revisions),
  };
}

const IMPORT_RESULTS = {
  imported: ImportResult.IMPORTED,
  already_there: ImportResult.ALREADY_THERE,
  unknown_hash: ImportResult.UNKNOWN_HASH,
  hash_too_costly: ImportResult.HASH_TOO_COSTLY,
};

function packOutcome({ result, userId }: ImportOutcome) {
  return { result: IMPORT_RESULTS[result], userId };
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

function packSecurityEvent(event: SecurityEvent) {
  const { at, action, outcome, reason, sessionId, actor, address, userAgent } = event;
  return {
    ...{ action, reason, address, userAgent },
    actor: SECURITY_EVENT_ACTORS[actor],
    at: timestampFromDate(at),
    succeeded: outcome === "success",
    sessionId: sessionId ?? "",
  };
}

function packAuditEntry(entry: AuditRow) {
  const { id, at, action, outcome, reason, accountId, sessionId, actor, address, userAgent, requestId } = entry;
  return {
    ...{ id, action, reason, actor, address, userAgent, requestId },
    at: timestampFromDate(at),
    succeeded: outcome === "success",
    userId: accountId ?? "",
    sessionId: sessionId ?? "",
  };
}
