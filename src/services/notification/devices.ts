/**
 * Devices: where a person is reached. A registration token has one owner, the one who registered it last; the push service
 * knows nothing of owners, so a token left with its former owner would show that person's messages to the new one.
 */
import { createHash } from "node:crypto";
import { and, desc, eq, inArray, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { isAnyOf } from "../../db/any-of.ts";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import { lockAccount } from "./accounts.ts";
import { devices } from "./schema.ts";

/** More would only multiply pushes; a person who has more has left the older ones. */
const MAX_DEVICES_OF_USER = 20;
/** Enough to tell devices apart; a whole token would let its finder push to the device. */
const SHOWN_OF_TOKEN = 8;

export type Platform = (typeof devices.$inferSelect)["platform"];

/** Where to push to. */
export interface Device {
  deviceId: string;
  token: string;
}

/** Registers the device, or moves it to this user; returns its id, the same for the same token. UNAUTHENTICATED. */
export async function registerDevice(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  input: { userId: string; token: string; platform: Platform },
): Promise<string> {
  const { userId, token, platform } = input;
  const tokenHash = createHash("sha256").update(token).digest("base64url");
  return transaction(
    db,
    async (tx) => {
      await lockAccount(tx, userId);
      const [device] = await tx
        .insert(devices)
        .values({ id: uuidv7(), userId, token, tokenHash, platform })
        .onConflictDoUpdate({
          target: devices.tokenHash,
          set: { userId, platform, lastSeenAt: sql`concierge_now()` },
        })
        .returning({ id: devices.id });
      await removeSurplus(tx, userId);
      return device!.id;
    },
    { signal },
  );
}

/** Two registrations at once may leave one too many; the next one removes it. */
async function removeSurplus(tx: Tx, userId: string): Promise<void> {
  const surplus = tx
    .select({ id: devices.id })
    .from(devices)
    .where(eq(devices.userId, userId))
    .orderBy(desc(devices.lastSeenAt), desc(devices.id))
    .offset(MAX_DEVICES_OF_USER);
  await tx.delete(devices).where(and(eq(devices.userId, userId), inArray(devices.id, surplus)));
}

/** The devices of a user as their owner sees them, the one that was registered last first. */
export async function listDevices(db: Db, userId: string) {
  const { id: deviceId, token, platform, createdAt, lastSeenAt } = devices;
  const found = await db
    .select({ deviceId, token, platform, createdAt, lastSeenAt })
    .from(devices)
    .where(eq(devices.userId, userId))
    .orderBy(desc(devices.lastSeenAt), desc(devices.id))
    .limit(MAX_DEVICES_OF_USER);
  return found.map(({ token, ...device }) => ({ ...device, tokenEnd: token.slice(-SHOWN_OF_TOKEN) }));
}

/** Removes a device that is the user's own. NOT_FOUND / DEVICE_NOT_FOUND. */
export async function removeDevice(db: Db, { userId, deviceId }: { userId: string; deviceId: string }): Promise<void> {
  const isOwn = and(eq(devices.id, deviceId), eq(devices.userId, userId));
  const removed = await db.delete(devices).where(isOwn).returning({ id: devices.id });
  if (removed.length === 0) throw fail(Code.NotFound, "DEVICE_NOT_FOUND", "there is no such device");
}

/** The devices of these users, in the order they were made; nobody's entry is missing. */
export async function devicesOf(db: Pick<Db, "select">, userIds: string[]): Promise<Map<string, Device[]>> {
  const found = new Map<string, Device[]>(userIds.map((userId) => [userId, []]));
  if (userIds.length === 0) return found;
  const rows = await db
    .select({ userId: devices.userId, deviceId: devices.id, token: devices.token })
    .from(devices)
    .where(isAnyOf(devices.userId, found.keys()))
    .orderBy(devices.id);
  for (const { userId, ...device } of rows) found.get(userId)!.push(device);
  return found;
}

/**
 * Removes every device, after a restore that lost changes; apps register again. One that was left since, or taken over by
 * somebody else, would be shown the messages of its former owner. Returns what it did, a line each.
 */
export async function forgetDevices(db: Db): Promise<string[]> {
  const { length } = await db.delete(devices).returning({ id: devices.id });
  return [`${length} devices were forgotten, to be registered again`];
}

/** Removes devices that the push service no longer knows, but only those that these users still own. */
export async function removeDevices(tx: Tx, deviceIds: string[], ownerIds: string[]): Promise<void> {
  if (deviceIds.length === 0 || ownerIds.length === 0) return;
  await tx.delete(devices).where(and(isAnyOf(devices.id, deviceIds), isAnyOf(devices.userId, ownerIds)));
}
