/**
 * Accounts: which ones there are, and of what kind, is auth's to say. access remembers those that it has heard of in auth's feed, and
 * asks auth only for the others; so a known person's roles are told while auth is away.
 */
import { inArray } from "drizzle-orm";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { during, type Tx } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { knownAccounts } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** What sort of person an account belongs to. */
export type Kind = (typeof knownAccounts.$inferSelect)["kind"];

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
  scope: CallScope,
  userIds: string[],
): Promise<Map<string, Kind>> {
  const known = await during(db, scope.signal)
    .select()
    .from(knownAccounts)
    .where(inArray(knownAccounts.userId, userIds));
  const kinds = new Map(known.map(({ userId, kind }) => [userId, kind]));
  const ask = async (userId: string) => {
    try {
      const { account } = await clients.auth.getAccount({ userId }, onward(scope));
      kinds.set(userId, kindOf(account?.kind));
    } catch (error) {
      if (reasonOf(error) !== "ACCOUNT_NOT_FOUND") throw error;
    }
  };
  await Promise.all(userIds.filter((userId) => !kinds.has(userId)).map(ask));
  return kinds;
}

/** Resolves if the account exists. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE for one not heard of. */
export async function requireAccount(context: AccessContext, scope: CallScope, userId: string): Promise<void> {
  const kinds = await kindsOfAccounts(context, scope, [userId.toLowerCase()]);
  if (kinds.size === 0) throw userNotFound();
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
