/**
 * Devices: where a person is reached. A registration token has one owner, the one who registered it last; the push service
 * knows nothing of owners, so a token left with its former owner would show that person's messages to the new one.
 */
import { createHash } from "node:crypto";
import { and, desc, eq, inArray, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import type { CallScope } from "../../rpc/call.ts";
import { lockAccount } from "./accounts.ts";
import { devices } from "./schema.ts";

/** More would only multiply pushes; a person who has more has left the older ones. */
const MAX_DEVICES_OF_USER = 20;

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

/** The devices of these users, in the order they were made; nobody's entry is missing. */
export async function devicesOf(db: Pick<Db, "select">, userIds: string[]): Promise<Map<string, Device[]>> {
  const found = new Map<string, Device[]>(userIds.map((userId) => [userId, []]));
  if (userIds.length === 0) return found;
  const rows = await db
    .select({ userId: devices.userId, deviceId: devices.id, token: devices.token })
    .from(devices)
    .where(inArray(devices.userId, [...found.keys()]))
    .orderBy(devices.id);
  for (const { userId, ...device } of rows) found.get(userId)!.push(device);
  return found;
}

/** Removes devices that the push service no longer knows, but only those that these users still own. */
export async function removeDevices(tx: Tx, deviceIds: string[], ownerIds: string[]): Promise<void> {
  if (deviceIds.length === 0 || ownerIds.length === 0) return;
  // As JSON: one parameter, however many there are.
  const ids = (values: string[]) =>
    sql`(select value::uuid from jsonb_array_elements_text(${JSON.stringify(values)}::jsonb))`;
  await tx
    .delete(devices)
    .where(and(sql`${devices.id} in ${ids(deviceIds)}`, sql`${devices.userId} in ${ids(ownerIds)}`));
}
