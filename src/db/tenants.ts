/**
 * Rows of many organizations in one database, kept apart twice: every query names its organization (ofOrganization),
 * and one that forgets it is shown no foreign row by PostgreSQL's row-level security. The policies (columns.ts) go by
 * settings that a transaction makes for itself alone: outside of one, or on a connection that others used before, there
 * is no row at all.
 */
import { type AnyColumn, eq, type SQL, sql } from "drizzle-orm";
import { Code, fail } from "../errors.ts";
import { type Db, type TransactionOptions, type Tx, transaction } from "./database.ts";

/** Who somebody is to the rows of any organization: the subject of memberships, the addressee of invitations. */
export interface Person {
  userId: string;
  /** Only of an address that is known to be theirs. */
  emailKey?: string;
}

/** Whose rows a transaction sees: those of the organization, and those of the person in any organization. */
export type RowScope = { organizationId?: string } & Partial<Person>;

type ScopeOptions = Omit<TransactionOptions, "settings">;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** transaction() that reads and writes the rows of one organization. */
export function forOrganization<T>(
  db: Db,
  organizationId: string,
  work: (tx: Tx) => Promise<T>,
  options?: ScopeOptions,
): Promise<T> {
  return withinScope(db, { organizationId }, work, options);
}

/**
 * transaction() that reads the rows of one person in any organization; changing (or locking) them needs the
 * organization.
 */
export function forPerson<T>(db: Db, person: Person, work: (tx: Tx) => Promise<T>, options?: ScopeOptions): Promise<T> {
  return withinScope(db, person, work, options);
}

/** transaction() over all that the scope names. Throws INVALID_ARGUMENT, before any SQL, for an id that is no UUID. */
export async function withinScope<T>(
  db: Db,
  { organizationId, userId, emailKey }: RowScope,
  work: (tx: Tx) => Promise<T>,
  options?: ScopeOptions,
): Promise<T> {
  const settings: Record<string, string> = {};
  if (organizationId !== undefined) settings["concierge.organization"] = checkedId(organizationId);
  if (userId !== undefined) settings["concierge.person"] = checkedId(userId);
  if (emailKey !== undefined) settings["concierge.email_key"] = emailKey;
  return transaction(db, work, { ...options, settings });
}

function checkedId(id: string): string {
  if (!UUID.test(id))
    throw fail(Code.InvalidArgument, "INVALID_REQUEST", "organizations and people are named by UUIDs");
  return id;
}

/** What a query is called among those that name their organization: "<table>.<what it does>", each name once. */
export type PredicateName = `${string}.${string}`;

const usedNames = new Set<PredicateName>();
const removed = new Set<PredicateName>();

/** The part of a query's WHERE that names its organization. */
export function ofOrganization(name: PredicateName, column: AnyColumn, organizationId: string): SQL {
  usedNames.add(name);
  return removed.has(name) ? sql`true` : eq(column, organizationId);
}

/** The names of all that this process has asked for until now, in order. */
export function usedPredicates(): PredicateName[] {
  return [...usedNames].sort();
}

/**
 * Leaves one predicate out until it is disposed of, to show that the second line holds by itself. As with failpoints,
 * only a call in the same process does that: no variable, file, header or signal.
 */
export function withoutPredicate(name: PredicateName): Disposable {
  if (removed.has(name)) throw new Error(`predicate ${name} is left out already`);
  removed.add(name);
  return { [Symbol.dispose]: () => void removed.delete(name) };
}
