/**
 * People who come from elsewhere, with the hash of the password that they have there. Their passwords are not judged, which would
 * need the passwords; a foreign hash is verified once, at its owner's first login.
 */
import { v7 as uuidv7 } from "uuid";
import { now } from "../../db/columns.ts";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { emailKeyOf } from "../../emails.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { NewAccount } from "./accounts.ts";
import { auditAll } from "./audit.ts";
import { accountRegistered } from "./events.ts";
import { formOf } from "./password-hashes.ts";
import { accounts, credentials } from "./schema.ts";

export type ImportedUser = Omit<NewAccount, "password"> & { passwordHash: string; emailVerified: boolean };

export interface ImportOutcome {
  result: "imported" | "already_there" | "unknown_hash" | "hash_too_costly";
  /** Of the new account. */
  userId?: string;
}

/** An account as it would be, if nobody has the address. */
type Candidate = ImportedUser & { id: string; emailKey: string };

/** Makes accounts of those whose hash can be used and whose address nobody has; answers for each what became of it. */
export async function importUsers(db: Db, scope: CallScope, users: ImportedUser[]): Promise<ImportOutcome[]> {
  const rows = users.map((user) => ({ ...user, id: uuidv7(), emailKey: emailKeyOf(user.email) }));
  const candidates = candidatesAmong(rows);
  const imported = await transaction(db, (tx) => insertNew(tx, scope, candidates), { signal: scope.signal });
  return rows.map(({ id, passwordHash }) => {
    const form = formOf(passwordHash);
    if (form === "unknown") return { result: "unknown_hash" };
    if (form === "too_costly") return { result: "hash_too_costly" };
    return imported.has(id) ? { result: "imported", userId: id } : { result: "already_there" };
  });
}

/** The first of each address, in the order of addresses: two imports at once must lock them in one order. */
function candidatesAmong(rows: Candidate[]): Candidate[] {
  const candidates = new Map<string, Candidate>();
  for (const row of rows) {
    const isUsable = ["argon2id", "bcrypt"].includes(formOf(row.passwordHash));
    if (isUsable && !candidates.has(row.emailKey)) candidates.set(row.emailKey, row);
  }
  return [...candidates.keys()].sort().map((emailKey) => candidates.get(emailKey)!);
}

/** Returns the ids of the new accounts. */
async function insertNew(tx: Tx, scope: CallScope, candidates: Candidate[]): Promise<Set<string>> {
  if (candidates.length === 0) return new Set();
  const made = await tx
    .insert(accounts)
    .values(candidates.map((candidate) => ({ ...candidate, emailVerifiedAt: candidate.emailVerified ? now : null })))
    .onConflictDoNothing({ target: accounts.emailKey })
    .returning();
  const ids = new Set(made.map(({ id }) => id));
  if (ids.size === 0) return ids;
  const isNew = candidates.filter(({ id }) => ids.has(id));
  await tx.insert(credentials).values(isNew.map(({ id, passwordHash }) => ({ accountId: id, passwordHash })));
  await emit(tx, made.map(accountRegistered));
  await auditAll(
    tx,
    scope,
    made.map(({ id }) => ({ action: "account_imported", accountId: id })),
  );
  return ids;
}
