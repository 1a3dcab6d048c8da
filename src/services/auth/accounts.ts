/** Accounts: who there is. One e-mail address belongs to one account, whatever its spelling in upper and lower case. */
import { and, eq, ne, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import type { Db, Tx } from "../../db/database.ts";
import { during, transaction } from "../../db/database.ts";
import { emailKeyOf } from "../../emails.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { takeAnonymousCall } from "./attempts.ts";
import { type AuditScope, audit } from "./audit.ts";
import { accountNamesChanged, accountRegistered } from "./events.ts";
import { type Mailing, writeMail } from "./mails.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";

export type Account = typeof accounts.$inferSelect;

/** What others know of a person, and a password may not rest on. */
export function ownWordsOf(person: Pick<Account, "email" | "firstName" | "lastName" | "stageName">): string[] {
  return [person.email, person.firstName, person.lastName, person.stageName];
}

export interface NewAccount {
  kind: Account["kind"];
  email: string;
  password: string;
  firstName: string;
  lastName: string;
  locale: string;
  /** Empty but for artists. */
  stageName: string;
}

/**
 * Makes an account with a password. Returns its id; where addresses must be verified, nothing: there the answer and the
 * work are the same for an address that is taken, and its owner is told by mail.
 */
export async function register(auth: AuthContext, scope: CallScope, input: NewAccount): Promise<string> {
  const { db, passwords, mailing, requireEmailVerification } = auth;
  const { signal } = scope;
  await takeAnonymousCall(auth, scope, "account_registered");
  // Before the costly hash, where the answer may tell; the constraint still decides between two at once.
  const [taken] = requireEmailVerification ? [] : await idOf(during(db, signal), input.email);
  if (taken) throw emailTaken();
  const passwordHash = await passwords.hash(input.password, ownWordsOf(input), signal);
  const id = await storeAccount(auth, scope, input, passwordHash);
  mailing.alarm.ring();
  return requireEmailVerification ? "" : id;
}

/**
 * Stores account, credential and event together or not at all; returns the id. ALREADY_EXISTS / EMAIL_TAKEN, or instead
 * of it, where addresses must be verified, a mail to the owner.
 */
export async function storeAccount(
  { db, mailing, requireEmailVerification }: Pick<AuthContext, "db" | "mailing" | "requireEmailVerification">,
  scope: AuditScope & Pick<CallScope, "signal">,
  input: Omit<NewAccount, "password">,
  passwordHash: string,
): Promise<string> {
  const id = uuidv7();
  await transaction(
    db,
    async (tx) => {
      const account = await insertAccount(tx, id, input);
      if (!account) {
        if (!requireEmailVerification) throw emailTaken();
        return tellOwner(tx, mailing, scope, input.email);
      }
      await tx.insert(credentials).values({ accountId: id, passwordHash });
      await emit(tx, [accountRegistered(account)]);
      await writeMail(tx, mailing, scope, { kind: "verify_email", accountId: id });
      await audit(tx, scope, { action: "account_registered", accountId: id });
    },
    { signal: scope.signal },
  );
  return id;
}

/** Undefined if the address is taken. */
async function insertAccount(tx: Tx, id: string, input: Omit<NewAccount, "password">): Promise<Account | undefined> {
  const { kind, email, firstName, lastName, locale, stageName } = input;
  const details = { kind, email, emailKey: emailKeyOf(email), firstName, lastName, locale, stageName };
  const [account] = await tx
    .insert(accounts)
    .values({ id, ...details })
    .onConflictDoNothing({ target: accounts.emailKey })
    .returning();
  return account;
}

async function tellOwner(tx: Tx, mailing: Mailing, scope: AuditScope, email: string): Promise<void> {
  // Locked, so that of many at once each sees the mails of those before it.
  const [owner] = await idOf(tx, email).for("no key update");
  if (!owner) return;
  const accountId = owner.id;
  await writeMail(tx, mailing, scope, { kind: "address_taken", accountId });
  await audit(tx, scope, { action: "account_registered", outcome: "refused", reason: "email_taken", accountId });
}

function idOf(db: Pick<Db, "select">, email: string) {
  return db
    .select({ id: accounts.id })
    .from(accounts)
    .where(eq(accounts.emailKey, emailKeyOf(email)));
}

/** What is known of an account whose row is locked. */
export interface LockedAccount {
  generation: number;
  /** Of the credential. */
  version: number;
  isVerified: boolean;
}

/**
 * Locks an active account and then its credential; what it says of them is from after the lock. Undefined if there is
 * none.
 */
export async function lockActiveAccount(tx: Tx, userId: string): Promise<LockedAccount | undefined> {
  const [account] = await tx.execute<{ [Key in keyof LockedAccount]: LockedAccount[Key] }>(sql`
    select ${accounts.generation} as generation, ${credentials.version} as version,
      ${accounts.emailVerifiedAt} is not null as "isVerified"
    from ${accounts} join ${credentials} on ${credentials.accountId} = ${accounts.id}
    where ${accounts.id} = ${userId} and ${accounts.status} = 'active'
    for no key update of ${accounts} for no key update of ${credentials}`);
  return account;
}

/** What user says that a person is called now. */
export async function storeNames(
  tx: Tx,
  { userId, firstName, lastName }: Pick<Account, "firstName" | "lastName"> & { userId: string },
): Promise<OutboxEvent[]> {
  const renamed = await tx
    .update(accounts)
    .set({ firstName, lastName })
    .where(and(eq(accounts.id, userId), ne(accounts.status, "deleted")))
    .returning({ userId: accounts.id });
  return renamed.map(accountNamesChanged);
}

/** The account with this id. */
export async function getAccount(db: Db, userId: string): Promise<Account> {
  const [account] = await db.select().from(accounts).where(eq(accounts.id, userId));
  if (!account || account.status === "deleted") throw accountNotFound();
  return account;
}

/** The refusal of an id that belongs to nobody. */
export function accountNotFound() {
  return fail(Code.NotFound, "ACCOUNT_NOT_FOUND", "there is no such account");
}

function emailTaken() {
  return fail(Code.AlreadyExists, "EMAIL_TAKEN", "an account with this e-mail address exists already");
}
