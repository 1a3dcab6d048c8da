/** Devices against a real database: one owner at a time, however often and by whomever they are registered. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { devicesOf, listDevices, type Platform, registerDevice, removeDevice } from "./devices.ts";
import { devices } from "./schema.ts";
import { openTestDatabase, scope } from "./testing.ts";

function register(db: Db, userId: string, token: string, platform: Platform = "android") {
  return registerDevice(db, scope, { userId, token, platform });
}

async function tokensOf(db: Db, userId: string) {
  return (await devicesOf(db, [userId])).get(userId)!.map(({ token }) => token);
}

test("a token has one id and one owner: who registered it last", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
  const id = await register(db, ann, "phone");
  assert.equal(await register(db, ann, "phone", "web"), id);
  assert.deepEqual(await tokensOf(db, ann), ["phone"]);
  assert.equal(await register(db, bob, "phone"), id);
  assert.deepEqual([await tokensOf(db, ann), await tokensOf(db, bob)], [[], ["phone"]]);
  const [device] = await db.select().from(devices);
  assert.equal(device?.platform, "android");
  assert.ok(device.lastSeenAt > device.createdAt);
});

test("one token registered by 20 users at once ends with one owner", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const registering = Array.from({ length: 20 }, () => register(db, crypto.randomUUID(), "phone"));
  assert.equal(new Set(await Promise.all(registering)).size, 1);
  assert.equal(await db.$count(devices), 1);
});

test("the longest token is stored, and tokens that differ at its end are two devices", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userId = crypto.randomUUID();
  const start = randomBytes(3_071).toString("base64url").slice(0, 4_095);
  await register(db, userId, `${start}a`);
  await register(db, userId, `${start}b`);
  assert.deepEqual(await tokensOf(db, userId), [`${start}a`, `${start}b`]);
});

test("the 21st device takes the place of the one that was registered longest ago", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
  await register(db, bob, "bob's");
  for (let i = 0; i < 20; i++) await register(db, ann, `token ${i}`);
  await register(db, ann, "token 0");
  await register(db, ann, "token 20");
  const tokens = await tokensOf(db, ann);
  assert.equal(tokens.length, 20);
  assert.ok(tokens.includes("token 0") && tokens.includes("token 20") && !tokens.includes("token 1"));
  assert.deepEqual(await tokensOf(db, bob), ["bob's"]);
});

test("devices are listed for their owner, the last registered first, by the end of their tokens, and removed by nobody else", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
  const [phone, tablet] = [
    await register(db, ann, "token of the phone"),
    await register(db, ann, "token of the tablet"),
  ];
  await register(db, ann, "token of the phone", "ios");
  const listed = (await listDevices(db, ann)).map(({ deviceId, platform, tokenEnd }) => [deviceId, platform, tokenEnd]);
  assert.deepEqual(listed, [
    [phone, "ios", "he phone"],
    [tablet, "android", "e tablet"],
  ]);
  assert.deepEqual(await listDevices(db, bob), []);
  const isNotFound = (error: unknown) => reasonOf(error) === "DEVICE_NOT_FOUND";
  await assert.rejects(removeDevice(db, { userId: bob, deviceId: phone }), isNotFound);
  await removeDevice(db, { userId: ann, deviceId: phone });
  await assert.rejects(removeDevice(db, { userId: ann, deviceId: phone }), isNotFound);
  assert.deepEqual(await tokensOf(db, ann), ["token of the tablet"]);
});
