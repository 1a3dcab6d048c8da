/**
 * Profiles: who people are. The event of a registration makes the profile; a read that comes before it makes it from what auth
 * knows, so it works right after the registration whichever process has died in between. However many make it at once,
 * one row is made and one event tells of it. Roles belong to access and are asked for at every read.
 */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { eq, sql } from "drizzle-orm";
import { type Db, during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { userCreated } from "./events.ts";
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
    throw fail(Code.NotFound, "USER_NOT_FOUND", "there is no such user", { cause: error });
  }
}

/** The person who calls. Who has a live session has an account, so its absence is a fault and not an answer. */
export async function getMe(context: UserContext, scope: CallScope, userId: string): Promise<User> {
  try {
    return await getUser(context, scope, userId);
  } catch (error) {
    if (reasonOf(error) !== "USER_NOT_FOUND") throw error;
    throw new Error("the account behind a live session was not found", { cause: error });
  }
}

async function findProfile(db: Pick<Db, "select">, userId: string): Promise<Profile | undefined> {
  const [profile] = await db.select().from(profiles).where(eq(profiles.userId, userId));
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
      await emit(tx, events);
      return profile;
    },
    { signal: scope.signal },
  );
}

/** Makes the profile if it is not there. `events` tell of it, to be published by who has made it: none if it was there. */
export async function storeProfile(
  tx: Tx,
  values: Omit<Profile, "updatedAt">,
): Promise<{ profile: Profile; events: OutboxEvent[] }> {
  // Waits for another transaction that is making the same profile, and then makes none.
  const [made] = await tx.insert(profiles).values(values).onConflictDoNothing().returning();
  if (made) return { profile: made, events: [userCreated(made)] };
  const profile = await findProfile(tx, values.userId);
  if (!profile) throw new Error("the profile was neither made nor found");
  return { profile, events: [] };
}

/** Takes over an account's new address. A profile that is not there yet will be made with it. */
export async function storeEmail(tx: Tx, userId: string, email: string): Promise<void> {
  const changed = { email, updatedAt: sql`concierge_now()` };
  await tx.update(profiles).set(changed).where(eq(profiles.userId, userId));
}
