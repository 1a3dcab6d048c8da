/**
 * Profiles: who people are. The event of a registration makes the profile; a read that comes before it makes it from what auth
 * knows, so it works right after the registration whichever process has died in between. However many make it at once,
 * one row is made and one event tells of it; once the account is deleted, nobody makes it again. Roles belong to access and are
 * asked for at every read.
 */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { and, eq, isNull, sql } from "drizzle-orm";
import { type Db, during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { userCreated, userDeleted } from "./events.ts";
import { profiles } from "./schema.ts";
import type { UserContext } from "./service.ts";

export type Profile = typeof profiles.$inferSelect;

/** A profile with the names of the person's roles, in alphabetical order. */
export interface User extends Profile {
  roles: string[];
}

/** Any person by id. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function getUser(context: UserContext, scope: CallScope, userId: string): Promise<User> {
  try {
    const [found, { roles }] = await Promise.all([
      findProfile(during(context.db, scope.signal), userId),
      context.clients.access.getUserRoles({ userId }, onward(scope)),
    ]);
    return { ...(found ?? (await makeProfile(context, scope, userId))), roles };
  } catch (error) {
    const reason = reasonOf(error);
    if (reason !== "ACCOUNT_NOT_FOUND" && reason !== "USER_NOT_FOUND") throw error;
    throw userNotFound(error);
  }
}

/** The person who calls. UNAUTHENTICATED for one whose account was deleted a moment ago: the session has ended, too. */
export async function getMe(context: UserContext, scope: CallScope, userId: string): Promise<User> {
  try {
    return await getUser(context, scope, userId);
  } catch (error) {
    if (reasonOf(error) !== "USER_NOT_FOUND") throw error;
    throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated", { cause: error });
  }
}

async function findProfile(db: Pick<Db, "select">, userId: string): Promise<Profile | undefined> {
  const [profile] = await db
    .select()
    .from(profiles)
    .where(and(eq(profiles.userId, userId), isNull(profiles.deletedAt)));
  return profile;
}

async function makeProfile({ db, clients }: UserContext, scope: CallScope, userId: string): Promise<Profile> {
  const { account } = await clients.auth.getAccount({ userId }, onward(scope));
  if (!account?.createdAt) throw new Error("auth answered without an account");
  const { email, firstName, lastName, locale } = account;
  const values = { userId, email, firstName, lastName, locale, createdAt: timestampDate(account.createdAt) };
  return transaction(
    db,
    async (tx) => {
      const { profile, events } = await storeProfile(tx, values);
      if (!profile) throw userNotFound();
      await emit(tx, events);
      return profile;
    },
    { signal: scope.signal },
  );
}

/**
 * Makes the profile if it is not there. `events` tell of it, to be published by who has made it: none if it was there. There
 * is no profile if it was deleted.
 */
export async function storeProfile(
  tx: Tx,
  values: Omit<Profile, "updatedAt" | "deletedAt">,
): Promise<{ profile: Profile | undefined; events: OutboxEvent[] }> {
  // Waits for another transaction that is making the same profile, and then makes none.
  const [made] = await tx.insert(profiles).values(values).onConflictDoNothing().returning();
  if (made) return { profile: made, events: [userCreated(made)] };
  return { profile: await findProfile(tx, values.userId), events: [] };
}

/** Deletes the profile, or sees to it that it is never made; returns what tells of it, unless that has been told. */
export async function deleteProfile(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  const nothing = { email: "", firstName: "", lastName: "", locale: "" };
  const now = sql`concierge_now()`;
  const [deleted] = await tx
    .insert(profiles)
    .values({ ...nothing, userId, createdAt: now, deletedAt: now })
    .onConflictDoUpdate({
      target: profiles.userId,
      set: { ...nothing, updatedAt: now, deletedAt: now },
      setWhere: isNull(profiles.deletedAt),
    })
    .returning({ userId: profiles.userId });
  return deleted ? [userDeleted(deleted.userId)] : [];
}

/** The JSON document of ExportMyData. */
export async function exportProfile(context: UserContext, scope: CallScope, userId: string): Promise<string> {
  const { roles, deletedAt: _, ...profile } = await getMe(context, scope, userId);
  return JSON.stringify({ profile, roles });
}

function userNotFound(cause?: unknown) {
  return fail(Code.NotFound, "USER_NOT_FOUND", "there is no such user", { cause });
}
