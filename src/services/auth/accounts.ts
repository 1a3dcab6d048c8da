/** Accounts: who there is. One e-mail address belongs to one account, whatever its spelling in upper and lower case. */
import { eq } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import type { Db } from "../../db/database.ts";
import { during, transaction } from "../../db/database.ts";
import { constraintOf } from "../../db/errors.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { takeRegistration } from "./attempts.ts";
import { audit } from "./audit.ts";
import { accountRegistered } from "./events.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";

export type Account = typeof accounts.$inferSelect;

/** The form of an address that is compared. */
export function emailKeyOf(email: string): string {
  return email.normalize("NFC").toLowerCase();
}

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

/** Makes an account with a password and returns its id. Account, credential and event are stored together or not at all. */
export async function register(
  auth: AuthContext,
  scope: CallScope,
  { kind, email, password, firstName, lastName, locale, stageName }: NewAccount,
): Promise<string> {
  const { db, passwords } = auth;
  const { signal } = scope;
  await takeRegistration(auth, scope);
  const emailKey = emailKeyOf(email);
  // Before the costly hash; the constraint still decides between two at once.
  const [taken] = await during(db, signal)
    .select({ id: accounts.id })
    .from(accounts)
    .where(eq(accounts.emailKey, emailKey));
  if (taken) throw emailTaken();
  const passwordHash = await passwords.hash(password, ownWordsOf({ email, firstName, lastName, stageName }), signal);
  const id = uuidv7();
  try {
    await transaction(
      db,
      async (tx) => {
        const details = { kind, email, emailKey, firstName, lastName, locale, stageName };
        const [account] = await tx
          .insert(accounts)
          .values({ id, ...details })
          .returning();
        await tx.insert(credentials).values({ accountId: id, passwordHash });
        await emit(tx, [accountRegistered(account!)]);
        await audit(tx, scope, { action: "account_registered", accountId: id });
      },
      { signal },
    );
  } catch (error) {
    if (constraintOf(error) === "accounts_email_key") throw emailTaken();
    throw error;
  }
  return id;
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
