/**
 * Profiles: who people are. The event of a registration makes the profile; a read that comes before it makes it from
 * what auth knows, so it works right after the registration whichever process has died in between. However many make it
 * at once, one row is made and one event tells of it; once the account is deleted, nobody makes it again. Roles belong
 * to access and are asked for at every read.
 */
import { isDeepStrictEqual } from "node:util";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { and, eq, inArray, isNull, sql } from "drizzle-orm";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import type { Permission } from "../../../gen/permissions.ts";
import { type Db, during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { holds, type Rights } from "../../rights/rights.ts";
import { type CallScope, onward, type Person } from "../../rpc/call.ts";
import type { Artist } from "./artists.ts";
import { profileCreated, userDeleted, userUpdated } from "./events.ts";
import { artists, profiles } from "./schema.ts";
import type { UserContext } from "./service.ts";

/** A person, with what everybody may know of an artist; null for others. */
export type Profile = typeof profiles.$inferSelect & { artist: Artist | null };

/** A profile with the names of the person's roles, in alphabetical order. */
export interface User extends Profile {
  roles: string[];
}

/** What auth tells of an account. */
export interface Registration {
  userId: string;
  kind: AccountKind;
  email: string;
  firstName: string;
  lastName: string;
  locale: string;
  stageName: string;
  createdAt: Date;
}

/** Those of these people who exist, in the order asked for and each once. UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function getUsers(context: UserContext, scope: CallScope, userIds: string[]): Promise<User[]> {
  const asked = [...new Set(userIds.map((userId) => userId.toLowerCase()))];
  const [found, { users }] = await Promise.all([
    findProfiles(during(context.db, scope.signal), asked),
    context.clients.access.batchGetUserRoles({ userIds: asked }, onward(scope)),
  ]);
  const rolesOf = new Map(users.map(({ userId, roles }) => [userId, roles]));
  const complete = asked.map(async (userId) => {
    const roles = rolesOf.get(userId);
    if (!roles) return undefined;
    const profile = found.find((each) => each.userId === userId) ?? (await makeProfile(context, scope, userId));
    return profile && { ...profile, roles };
  });
  return (await Promise.all(complete)).filter((user) => user !== undefined);
}

/** Any person by id. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function getUser(context: UserContext, scope: CallScope, userId: string): Promise<User> {
  const [user] = await getUsers(context, scope, [userId]);
  if (!user) throw userNotFound();
  return user;
}

/**
 * A person by id, as `person` may see them: themselves, or by the permission profiles:read a member of the organization
 * that they act in. NOT_FOUND / USER_NOT_FOUND for everybody else, UNAVAILABLE / AUTH_STALE.
 */
export async function getVisibleUser(
  context: UserContext,
  scope: CallScope,
  person: Person,
  userId: string,
): Promise<User> {
  if (userId.toLowerCase() === person.userId) return getMe(context, scope, person);
  const colleague = { userId: userId.toLowerCase(), permission: "profiles:read" } as const;
  await requireColleague(context, scope, person, colleague);
  return getUser(context, scope, userId);
}

/** The person who calls. UNAUTHENTICATED for one whose account was deleted a moment ago: the session has ended, too. */
export async function getMe(context: UserContext, scope: CallScope, { userId }: Person): Promise<User> {
  const [user] = await getUsers(context, scope, [userId]);
  if (!user) throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  return user;
}

/** The JSON document of ExportMyData. */
export async function exportProfile(context: UserContext, scope: CallScope, person: Person): Promise<string> {
  const { roles, deletedAt: _, ...profile } = await getMe(context, scope, person);
  return JSON.stringify({ profile, roles });
}

/**
 * Changes names and language of the person who calls, or by the permission profiles:update those of a member of the
 * organization that they act in; tells of it if anything is different then. Errors as above.
 */
export async function updateUser(
  context: UserContext,
  scope: CallScope,
  person: Person,
  id: string,
  changes: Partial<Pick<Profile, "firstName" | "lastName" | "locale">>,
): Promise<User> {
  const userId = id.toLowerCase();
  const isSelf = userId === person.userId;
  if (!isSelf) await requireColleague(context, scope, person, { userId, permission: "profiles:update" });
  const user = await (isSelf ? getMe(context, scope, person) : getUser(context, scope, userId));
  const isUser = eq(profiles.userId, userId);
  const profile = await transaction(
    context.db,
    async (tx) => {
      const [before] = await tx.select().from(profiles).where(isUser).for("no key update");
      if (!before || before.deletedAt) throw userNotFound();
      const after = { ...before, ...changes };
      if (isDeepStrictEqual(before, after)) return after;
      await tx
        .update(profiles)
        .set({ ...changes, updatedAt: sql`concierge_now()` })
        .where(isUser);
      await emit(tx, [userUpdated(after)]);
      return after;
    },
    { signal: scope.signal },
  );
  return { ...user, ...profile };
}

/** What a member is by a role that is built in, from the least to the most. */
const RANKS = ["member", "admin", "owner"];

function rankOf({ roles }: Rights): number {
  return RANKS.findLastIndex((name) => roles.includes(name));
}

/**
 * Refuses who lacks the permission in the organization that they act in, and people who are no members of it, as people
 * who do not exist; for a change also people who are more there than the caller.
 */
async function requireColleague(
  { rights }: UserContext,
  { wanted }: CallScope,
  { userId: ownId, organizationId }: Person,
  { userId, permission }: { userId: string; permission: Permission },
): Promise<void> {
  if (organizationId === undefined) throw userNotFound();
  const rightsIn = async (id: string) => (await rights.rightsOf({ userId: id, organizationId }, { wanted })).rights;
  try {
    const own = await rightsIn(ownId);
    if (!holds(own, permission)) throw userNotFound();
    const theirs = await rightsIn(userId);
    if (theirs.standing !== "active") throw userNotFound();
    if (permission === "profiles:update" && rankOf(theirs) > rankOf(own)) throw userNotFound();
  } catch (error) {
    throw ConnectError.from(error).code === Code.NotFound ? userNotFound() : error;
  }
}

/** A person's profile, made from the account if it is not there; undefined if there is no account. */
export async function findOrMakeProfile(
  context: UserContext,
  scope: CallScope,
  userId: string,
): Promise<Profile | undefined> {
  const [found] = await findProfiles(during(context.db, scope.signal), [userId]);
  return found ?? makeProfile(context, scope, userId);
}

async function findProfiles(db: Pick<Db, "select">, userIds: string[]): Promise<Profile[]> {
  const rows = await db
    .select({ profile: profiles, artist: artists })
    .from(profiles)
    .leftJoin(artists, eq(artists.userId, profiles.userId))
    .where(and(inArray(profiles.userId, userIds), isNull(profiles.deletedAt)));
  return rows.map(({ profile, artist }) => ({ ...profile, artist }));
}

async function makeProfile(context: UserContext, scope: CallScope, userId: string): Promise<Profile | undefined> {
  const registration = await askForRegistration(context, scope, userId);
  if (!registration) return undefined;
  return transaction(
    context.db,
    async (tx) => {
      const { profile, events } = await storeProfile(tx, registration);
      await emit(tx, events);
      return profile;
    },
    { signal: scope.signal },
  );
}

async function askForRegistration(
  { clients }: UserContext,
  scope: CallScope,
  userId: string,
): Promise<Registration | undefined> {
  try {
    const { account } = await clients.auth.getAccount({ userId }, onward(scope));
    if (!account?.createdAt) throw new Error("auth answered without an account");
    return { ...account, createdAt: timestampDate(account.createdAt) };
  } catch (error) {
    if (reasonOf(error) !== "ACCOUNT_NOT_FOUND") throw error;
    return undefined;
  }
}

/**
 * Makes the profile if it is not there. `events` tell of it, to be published by who has made it: none if it was there.
 * There is no profile if it was deleted.
 */
export async function storeProfile(
  tx: Tx,
  { userId, kind, email, firstName, lastName, locale, stageName, createdAt }: Registration,
): Promise<{ profile: Profile | undefined; events: OutboxEvent[] }> {
  const values = { userId, kind: kindOf(kind), email, firstName, lastName, locale, createdAt };
  // Waits for another transaction that is making the same profile, and then makes none.
  const [made] = await tx.insert(profiles).values(values).onConflictDoNothing().returning();
  if (made) {
    const [artist] = made.kind === "artist" ? await tx.insert(artists).values({ userId, stageName }).returning() : [];
    const profile = { ...made, artist: artist ?? null };
    return { profile, events: [profileCreated(profile)] };
  }
  const [profile] = await findProfiles(tx, [userId]);
  return { profile, events: [] };
}

/** Deletes the profile, or sees to it that it is never made; returns what tells of it, unless that has been told. */
export async function deleteProfile(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  const nothing = { kind: "user", email: "", firstName: "", lastName: "", locale: "" } as const;
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
  if (!deleted) return [];
  await tx.delete(artists).where(eq(artists.userId, deleted.userId));
  return [userDeleted(deleted.userId)];
}

/**
 * The kind as the table has it. One that this version does not know is a fault: nothing can be said about such a
 * person.
 */
function kindOf(kind: AccountKind): Profile["kind"] {
  switch (kind) {
    case AccountKind.USER:
      return "user";
    case AccountKind.ARTIST:
      return "artist";
    default:
      throw new Error("auth told of an account of an unknown kind");
  }
}

function userNotFound() {
  return fail(Code.NotFound, "USER_NOT_FOUND", "there is no such user");
}

/** Takes over an account's new address. A profile that is not there yet will be made with it. */
export async function storeEmail(tx: Tx, userId: string, email: string): Promise<void> {
  const changed = { email, updatedAt: sql`concierge_now()` };
  await tx
    .update(profiles)
    .set(changed)
    .where(and(eq(profiles.userId, userId), isNull(profiles.deletedAt)));
}
