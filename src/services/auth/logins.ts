/** Logins: from e-mail and password to a session. */
import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import { during, transaction } from "../../db/database.ts";
import { emailKeyOf } from "../../emails.ts";
import { reasonOf } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { audienceOf } from "./access-tokens.ts";
import { lockActiveAccount } from "./accounts.ts";
import { chooseOrganization, rememberOrganization } from "./active-organizations.ts";
import { badCredentials, checkPassword } from "./attempts.ts";
import { audit } from "./audit.ts";
import { isDeviceOfAccount, renewDevice } from "./devices.ts";
import { writeMail } from "./mails.ts";
import { accounts, auditLog, credentials, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { startSession, type Tokens } from "./sessions.ts";

/** A credential as it was read, before the hash was computed. */
interface Credential {
  userId: string;
  passwordHash: string;
  version: number;
  isUsable: boolean;
  /** Whoever logs in has shown a device token of the account. */
  isKnown: boolean;
  lastOrganizationId: string | null;
}

export interface LoginInput {
  email: string;
  password: string;
  audience: string;
  /** Of an earlier login; empty for none. One that is unknown, or of another account, counts as none. */
  deviceToken: string;
  /** UUID of the organization to act in; empty for the last one. */
  organizationId: string;
}

/** How many of the account's last sessions are looked at to tell whether a login is from somewhere new. */
const KNOWN_SESSIONS = 100;

/**
 * Starts a session from e-mail and password. An unknown account, a disabled one, one whose address has to be verified, a wrong
 * password, and a password that was changed while this one was being checked all get the same answer: whoever registers an address
 * and then logs in must not learn whether it was taken.
 * RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS as in attempts.ts; the refusals of chooseOrganization() behind a right password.
 */
export async function login(
  auth: AuthContext,
  scope: CallScope,
  { email, password, audience, deviceToken, organizationId: asked }: LoginInput,
): Promise<Tokens & { deviceToken: string }> {
  const { db, passwords } = auth;
  const { signal } = scope;
  const tokenAudience = audienceOf(auth, audience);
  const emailKey = emailKeyOf(email);
  const credential = await findCredential(auth, scope, emailKey, deviceToken);
  const attempt = { action: "login", accountId: credential?.userId } as const;
  const { isKnown = false, isUsable = false } = credential ?? {};
  const claim = { ...attempt, emailKey, isKnown, isUsable, credential };
  const found = await checkPassword(auth, scope, claim, password);
  const { userId, lastOrganizationId: last } = found;
  const choice = chooseOrganization(auth, scope, { userId, asked, last });
  const organizationId = await choice.catch((error: unknown) => refuseLogin(auth, scope, userId, error));
  const newHash = passwords.isOutdated(found.passwordHash) ? await passwords.rehash(password, signal) : undefined;
  const tokens = await transaction(
    db,
    async (tx) => {
      // Whoever changes the password, disables the account or ends all of its sessions comes before this and is seen,
      // or after it and ends the new session, too.
      const account = await lockActiveAccount(tx, userId);
      if (account?.version !== found.version) return undefined;
      await noticeNewOrigin(tx, auth, scope, userId);
      const session = { userId, generation: account.generation, audience: tokenAudience, organizationId };
      const { tokens, events } = await startSession(tx, auth, scope, session);
      await emit(tx, events);
      await audit(tx, scope, { action: "login", accountId: userId, sessionId: tokens.sessionId });
      if (asked !== "") await rememberOrganization(tx, { userId, last }, organizationId);
      if (newHash) await replaceHash(tx, scope, found, newHash);
      return { ...tokens, deviceToken: await renewDevice(tx, userId, deviceToken) };
    },
    { signal },
  );
  if (!tokens) throw await badCredentials(auth, scope, attempt);
  return tokens;
}

async function findCredential(
  { db, requireEmailVerification }: AuthContext,
  { signal }: CallScope,
  emailKey: string,
  deviceToken: string,
): Promise<Credential | undefined> {
  const isVerified = requireEmailVerification ? sql`${accounts.emailVerifiedAt} is not null` : sql`true`;
  const [found] = await during(db, signal)
    .select({
      userId: accounts.id,
      passwordHash: credentials.passwordHash,
      version: credentials.version,
      isUsable: sql<boolean>`${accounts.status} = 'active' and ${isVerified}`,
      isKnown: isDeviceOfAccount(deviceToken),
      lastOrganizationId: accounts.lastOrganizationId,
    })
    .from(accounts)
    .innerJoin(credentials, eq(credentials.accountId, accounts.id))
    .where(eq(accounts.emailKey, emailKey));
  return found;
}

/** Throws the refusal of a right password, once it is written down and told: it tells that the password is right. */
async function refuseLogin(auth: AuthContext, scope: CallScope, accountId: string, error: unknown): Promise<never> {
  const reason = reasonOf(error)?.toLowerCase();
  await transaction(
    auth.db,
    async (tx) => {
      await noticeNewOrigin(tx, auth, scope, accountId);
      await audit(tx, scope, { action: "login", outcome: "refused", reason, accountId });
    },
    { signal: scope.signal },
  );
  throw error;
}

/** Mails a notice of a login from where no session of the account has been lately, unless it is the first login after a registration. */
async function noticeNewOrigin(tx: Tx, { mailing }: AuthContext, scope: CallScope, userId: string): Promise<void> {
  if (!mailing.isOn) return;
  const { address, userAgent } = scope.origin;
  const [found] = await tx.execute<{ isNew: boolean }>(sql`
    select not coalesce(bool_or(address = ${address} and user_agent = ${userAgent}), false) and exists (
      select from ${auditLog} a where a.account_id = ${userId} and a.outcome = 'success' and a.action in ('login', 'account_imported')
    ) as "isNew"
    from (select address, user_agent from ${sessions} where account_id = ${userId}
      order by created_at desc limit ${KNOWN_SESSIONS}) newest`);
  if (found?.isNew) await writeMail(tx, mailing, scope, { kind: "new_login", accountId: userId });
}

/** Stores a stronger hash of the same password; the row is locked, at the version that was verified. */
async function replaceHash(tx: Tx, scope: CallScope, found: Credential, passwordHash: string): Promise<void> {
  const { userId } = found;
  // Another login may have done it meanwhile.
  const isSame = and(eq(credentials.accountId, userId), eq(credentials.passwordHash, found.passwordHash));
  const [replaced] = await tx
    .update(credentials)
    .set({ passwordHash })
    .where(isSame)
    .returning({ userId: credentials.accountId });
  if (replaced) await audit(tx, scope, { action: "password_rehashed", accountId: userId });
}
