/**
 * Accounts: which ones there are, and of what kind, is auth's to say. access remembers those that it has heard of in auth's feed, and
 * asks auth only for the others; so a known person's roles are told while auth is away. A deleted one is remembered, as one that
 * is not there.
 */
import type { CallOptions } from "@connectrpc/connect";
import { eq, isNull, sql } from "drizzle-orm";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { isAnyOf } from "../../db/any-of.ts";
import { during, type Tx } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { knownAccounts } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** What sort of person an account belongs to. */
export type Kind = (typeof knownAccounts.$inferSelect)["kind"];

/** An account, its id as the database writes it. */
export interface KnownAccount {
  userId: string;
  kind: Kind;
}

/** Remembers an account that auth has told of. */
export async function rememberAccount(tx: Tx, { userId, kind }: { userId: string; kind: AccountKind }): Promise<void> {
  await tx
    .insert(knownAccounts)
    .values({ userId, kind: kindOf(kind) })
    .onConflictDoNothing();
}

/** The kinds of those of these accounts that exist; ids in lower case. UNAVAILABLE / DEPENDENCY_UNAVAILABLE for one not heard of. */
export async function kindsOfAccounts(
  { db, clients }: AccessContext,
  call: CallOptions & { signal: AbortSignal },
  userIds: string[],
): Promise<Map<string, Kind>> {
  const known = await during(db, call.signal)
    .select()
    .from(knownAccounts)
    .where(isAnyOf(knownAccounts.userId, userIds));
  const kinds = new Map(known.flatMap(({ userId, kind, deletedAt }) => (deletedAt ? [] : [[userId, kind] as const])));
  const heardOf = new Set(known.map(({ userId }) => userId));
  const ask = async (userId: string) => {
    try {
      const { account } = await clients.auth.getAccount({ userId }, call);
      kinds.set(userId, kindOf(account?.kind));
    } catch (error) {
      if (reasonOf(error) !== "ACCOUNT_NOT_FOUND") throw error;
    }
  };
  await Promise.all(userIds.filter((userId) => !heardOf.has(userId)).map(ask));
  return kinds;
}

/**
 * Remembers that an account is deleted; false if that was known. Who comes to lockAccount() later finds it gone; who was there first
 * is waited for.
 */
export async function markDeleted(tx: Tx, userId: string): Promise<boolean> {
  const deletedAt = sql`concierge_now()`;
  const marked = await tx
    .insert(knownAccounts)
    .values({ userId, kind: "user", deletedAt })
    .onConflictDoUpdate({ target: knownAccounts.userId, set: { deletedAt }, setWhere: isNull(knownAccounts.deletedAt) })
    .returning();
  return marked.length > 0;
}

/** Keeps an account from being deleted until the transaction ends. NOT_FOUND / USER_NOT_FOUND if it was. */
export async function lockAccount(tx: Tx, { userId, kind }: KnownAccount): Promise<void> {
  await tx.insert(knownAccounts).values({ userId, kind }).onConflictDoNothing();
  const [account] = await tx
    .select({ deletedAt: knownAccounts.deletedAt })
    .from(knownAccounts)
    .where(eq(knownAccounts.userId, userId))
    .for("share");
  if (account?.deletedAt) throw userNotFound();
}

/** The account, if it exists. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE for one not heard of. */
export async function requireAccount(
  context: AccessContext,
  call: CallOptions & { signal: AbortSignal },
  userId: string,
): Promise<KnownAccount> {
  const [account] = await kindsOfAccounts(context, call, [userId.toLowerCase()]);
  if (!account) throw userNotFound();
  return { userId: account[0], kind: account[1] };
}

/** The refusal of an id that belongs to nobody. */
export function userNotFound() {
  return fail(Code.NotFound, "USER_NOT_FOUND", "there is no such user");
}

/** The kind as the table has it. One that this version does not know is a fault: its roles are not known either. */
function kindOf(kind: AccountKind | undefined): Kind {
  switch (kind) {
    case AccountKind.USER:
      return "user";
    case AccountKind.ARTIST:
      return "artist";
    default:
      throw new Error("auth told of an account of an unknown kind");
  }
}
