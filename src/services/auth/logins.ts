/** Logins: from e-mail and password to a session. */
import { eq, sql } from "drizzle-orm";
import type { Db, Tx } from "../../db/database.ts";
import { during, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { audienceOf } from "./access-tokens.ts";
import { emailKeyOf } from "./accounts.ts";
import { badCredentials, checkPassword } from "./attempts.ts";
import { audit } from "./audit.ts";
import { isDeviceOfAccount, renewDevice } from "./devices.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { startSession, type Tokens } from "./sessions.ts";

/** A credential as it was read, before the hash was computed. */
interface Credential {
  userId: string;
  passwordHash: string;
  version: number;
  /** Whoever logs in has shown a device token of the account. */
  isKnown: boolean;
}

export interface LoginInput {
  email: string;
  password: string;
  audience: string;
  /** Of an earlier login; empty for none. One that is unknown, or of another account, counts as none. */
  deviceToken: string;
}

/**
 * Starts a session from e-mail and password. An unknown account, a disabled one, a wrong password, and a password that was changed
 * while this one was being checked all get the same answer. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS as in attempts.ts.
 */
export async function login(
  auth: AuthContext,
  scope: CallScope,
  { email, password, audience, deviceToken }: LoginInput,
): Promise<Tokens & { deviceToken: string }> {
  const { db, passwords } = auth;
  const { signal } = scope;
  const asked = audienceOf(auth, audience);
  const emailKey = emailKeyOf(email);
  const credential = await findCredential(during(db, signal), emailKey, deviceToken);
  const attempt = { action: "login", accountId: credential?.userId } as const;
  const claim = { ...attempt, emailKey, isKnown: credential?.isKnown ?? false, credential };
  const found = await checkPassword(auth, scope, claim, password);
  const newHash = passwords.isOutdated(found.passwordHash) ? await passwords.rehash(password, signal) : undefined;
  const tokens = await transaction(
    db,
    async (tx) => {
      const account = await lockCredential(tx, found);
      if (!account) return undefined;
      const { userId } = found;
      const session = { userId, generation: account.generation, audience: asked };
      const { tokens, events } = await startSession(tx, auth, scope, session);
      await emit(tx, events);
      await audit(tx, scope, { action: "login", accountId: userId, sessionId: tokens.sessionId });
      if (newHash) await replaceHash(tx, scope, found, newHash);
      return { ...tokens, deviceToken: await renewDevice(tx, userId, deviceToken) };
    },
    { signal },
  );
  if (!tokens) throw await badCredentials(db, scope, attempt);
  return tokens;
}

async function findCredential(db: Db, emailKey: string, deviceToken: string): Promise<Credential | undefined> {
  const [found] = await db
    .select({
      userId: accounts.id,
      passwordHash: credentials.passwordHash,
      version: credentials.version,
      isKnown: isDeviceOfAccount(deviceToken),
    })
    .from(accounts)
    .innerJoin(credentials, eq(credentials.accountId, accounts.id))
    .where(eq(accounts.emailKey, emailKey));
  return found;
}

/**
 * Locks the account and rechecks it and the credential, both in the state after the lock: whoever changes the password, disables the
 * account or ends all of its sessions comes before this and is seen, or after it and ends the new session, too. Undefined for an
 * account that is not active and for another version of the credential.
 */
export async function lockCredential(
  tx: Tx,
  { userId, version }: Pick<Credential, "userId" | "version">,
): Promise<{ generation: number } | undefined> {
  const [account] = await tx.execute<{ generation: number }>(sql`
    select ${accounts.generation} as generation
    from ${accounts} join ${credentials} on ${credentials.accountId} = ${accounts.id}
    where ${accounts.id} = ${userId} and ${accounts.status} = 'active' and ${credentials.version} = ${version}
    for no key update of ${accounts} for no key update of ${credentials}`);
  return account;
}

/** Stores a stronger hash of the same password; the row is locked, at the version that was verified. */
async function replaceHash(tx: Tx, scope: CallScope, { userId }: Credential, passwordHash: string): Promise<void> {
  await tx.update(credentials).set({ passwordHash }).where(eq(credentials.accountId, userId));
  await audit(tx, scope, { action: "password_rehashed", accountId: userId });
}
