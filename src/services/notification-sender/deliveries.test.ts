/**
 * Deliveries, run by run: the real notification service behind a network that can fail, the real Firebase SDK, the push
 * stand-in's ledger as the truth about what was pushed, and the database as the truth about what was told.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { connectService } from "../../client/service-client.ts";
import { systemClock } from "../../clock.ts";
import { openDatabase } from "../../db/database.ts";
import { createServiceAccount, identityOf, readLedger, startPushStandIn } from "../../dev/push-stand-in.ts";
import { armFailpoint, type FailpointName, heldFailpoint } from "../../failpoints.ts";
import { createLogger } from "../../log.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { startTestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { devices, recipients } from "../notification/schema.ts";
import { notification } from "../notification/service.ts";
import { Deliveries, PUSH_TIMEOUT_MS } from "./deliveries.ts";
import { createPusher } from "./push.ts";

const PROJECT = "concierge-test";
const LEASE_OVER_MS = 31_000;
const account = createServiceAccount(PROJECT);
const never = new AbortController().signal;

/** notification with auth, and what it takes to deliver by hand. */
async function startWorld({ batchSize = 100 } = {}) {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "deliveries-test-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const ledgerFile = join(folder, "ledger.jsonl");
  const serviceAccount = identityOf(await account);
  const standIn = { ledgerFile, clock: systemClock, serviceAccount, projectId: PROJECT };
  const { url: endpoint } = opened.use(await startPushStandIn(standIn));
  const pusher = opened.use(await createPusher({ key: await account, endpoint, sendTimeoutMs: PUSH_TIMEOUT_MS }));
  const system = opened.use(await startTestSystem({ definitions: [auth, notification] }));
  const { hostname, port } = new URL(system.internalUrl);
  const network = opened.use(await startFaultProxy({ host: hostname, port: Number(port) }));
  const key = system.keyOf("notification-sender", "notification");
  const { clock } = system;
  const connection = opened.use(connectService({ baseUrl: network.url, key, clock }));
  const logLines: { level: string; msg: string; codes?: string[] }[] = [];
  const destination = { write: (line: string) => void logLines.push(JSON.parse(line)) };
  const log = createLogger({ level: "info", mode: "development", destination });
  const options = { notification: connection.client(NotificationInternalService), pusher, batchSize, clock, log };
  const url = system.database("notification").runtimeUrl;
  const { db } = opened.use(openDatabase({ url, poolSize: 1, applicationName: "test" }));
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  const resources = opened.move();
  return {
    system,
    network,
    db,
    backend,
    logLines,
    newDeliveries: () => new Deliveries({ ...options, leaseSeconds: 30 }),
    /** Registers somebody with these devices. */
    async newUser(...tokens: string[]): Promise<string> {
      const { userId, accessToken } = await system.newUser();
      const client = system.asUser(NotificationService, accessToken);
      for (const token of tokens) await client.registerDevice({ token, platform: Platform.ANDROID });
      return userId;
    },
    async notify(userIds: string[], text = "hello"): Promise<string> {
      return (await backend.createNotification({ title: "Hi", text, data: { order: "42" }, userIds })).notificationId;
    },
    async outcomes(): Promise<Record<string, string | null>> {
      const rows = await db.select().from(recipients);
      return Object.fromEntries(rows.map(({ userId, outcome }) => [userId, outcome]));
    },
    deviceTokens: async () => (await db.select().from(devices)).map(({ token }) => token).sort(),
    pushedTokens: async () => (await readLedger(ledgerFile)).map(({ token }) => token),
    ledger: () => readLedger(ledgerFile),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

test("every device of a recipient is pushed to once, and the outcome is told", async () => {
  await using world = await startWorld();
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("ann's phone", "ann's tablet");
  const bob = await world.newUser();
  const notificationId = await world.notify([ann, bob]);
  await deliveries.run(never);
  const ledger = await world.ledger();
  assert.deepEqual(ledger.map(({ token }) => token).sort(), ["ann's phone", "ann's tablet"]);
  for (const { message } of ledger) {
    assert.deepEqual(message.notification, { title: "Hi", body: "hello" });
    assert.deepEqual(message.data, { order: "42", notification_id: notificationId });
  }
  assert.deepEqual(await world.outcomes(), { [ann]: "sent", [bob]: "no_device" });
  await world.system.advance(LEASE_OVER_MS);
  await deliveries.run(never);
  assert.equal((await world.ledger()).length, 2);
});

test("S-NOT-09 a dead device is removed, whether or not another one got the notification", async () => {
  await using world = await startWorld();
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("unregistered-a", "ann's phone");
  const bob = await world.newUser("unregistered-b");
  const cid = await world.newUser("invalid-c");
  await world.notify([ann, bob, cid]);
  await deliveries.run(never);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent", [bob]: "failed", [cid]: "failed" });
  assert.deepEqual(await world.deviceTokens(), ["ann's phone", "invalid-c"]);
  assert.deepEqual(await world.pushedTokens(), ["ann's phone"]);
});

test("R-NOT-10 one bad token in a batch of 500: 499 are sent, one is marked failed", async () => {
  await using world = await startWorld({ batchSize: 500 });
  const users = Array.from({ length: 500 }, () => crypto.randomUUID());
  const tokens = users.map((_, index) => (index === 250 ? "unregistered-x" : `phone ${index}`));
  await world.db.insert(devices).values(
    users.map((userId, index) => ({
      ...{
        id: crypto.randomUUID(),
        userId,
        token: tokens[index]!,
        tokenHash: tokens[index]!,
        platform: "web" as const,
      },
    })),
  );
  await world.notify(users);
  await world.newDeliveries().run(never);
  const outcomes = await world.outcomes();
  assert.equal(Object.values(outcomes).filter((outcome) => outcome === "sent").length, 499);
  assert.equal(outcomes[users[250]!], "failed");
  const pushed = await world.pushedTokens();
  assert.deepEqual([pushed.length, new Set(pushed).size], [499, 499]);
  assert.equal((await world.deviceTokens()).includes("unregistered-x"), false);
});

test("more pushes than FCM takes in one call go out in several, each with its own result", async () => {
  await using world = await startWorld();
  const users = Array.from({ length: 3 }, () => crypto.randomUUID());
  const tokens = Array.from({ length: 501 }, (_, index) => (index === 500 ? "unregistered-x" : `phone ${index}`));
  await world.db.insert(devices).values(
    tokens.map((token, index) => {
      const userId = users[Math.floor(index / 250)]!;
      return { id: crypto.randomUUID(), userId, token, tokenHash: token, platform: "web" as const };
    }),
  );
  await world.notify(users);
  await world.newDeliveries().run(never);
  assert.equal(new Set(await world.pushedTokens()).size, 500);
  const outcomes = await world.outcomes();
  assert.deepEqual(
    users.map((userId) => outcomes[userId]),
    ["sent", "sent", "failed"],
  );
});

test("full batches follow each other until all is delivered", async () => {
  await using world = await startWorld({ batchSize: 2 });
  const ann = await world.newUser("phone");
  for (const text of ["1", "2", "3", "4", "5"]) await world.notify([ann], text);
  await world.newDeliveries().run(never);
  const texts = (await world.ledger()).map(({ message }) => (message.notification as { body: string }).body);
  assert.deepEqual(texts.sort(), ["1", "2", "3", "4", "5"]);
});

test("what FCM cannot take now is tried again when the lease is over, and said once in the log", async () => {
  await using world = await startWorld({ batchSize: 1 });
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("flaky-2-a");
  await world.notify([ann]);
  for (const expected of [null, null, "sent"]) {
    await deliveries.run(never);
    await deliveries.run(never);
    assert.deepEqual(await world.outcomes(), { [ann]: expected });
    await world.system.advance(LEASE_OVER_MS);
  }
  assert.equal((await world.ledger()).length, 1);
  assert.deepEqual(
    world.logLines.map(({ msg, codes }) => [msg, codes]),
    [
      ["pushes fail, they will be tried again", ["messaging/internal-error"]],
      ["pushes go through again", undefined],
    ],
  );
});

for (const [name, pushesLost] of [
  ["sender.after_claim", 0],
  ["sender.after_push", 1],
] satisfies [FailpointName, number][]) {
  test(`a sender that dies at ${name} loses nothing`, async () => {
    await using world = await startWorld();
    const ann = await world.newUser("phone");
    await world.notify([ann]);
    {
      using _ = armFailpoint(name, "error");
      await assert.rejects(() => world.newDeliveries().run(never), new RegExp(name));
    }
    assert.deepEqual(await world.outcomes(), { [ann]: null });
    const successor = world.newDeliveries();
    await successor.run(never);
    assert.equal((await world.ledger()).length, pushesLost, "nothing is pushed inside the lease");
    await world.system.advance(LEASE_OVER_MS);
    await successor.run(never);
    const ledger = await world.ledger();
    assert.equal(ledger.length, pushesLost + 1);
    const keys = ledger.map(({ message }) => (message.android as { collapse_key: string }).collapse_key);
    assert.equal(new Set(keys).size, 1);
    assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
  });
}

test("R-NOT-17 what the lease no longer covers is not pushed", async () => {
  await using world = await startWorld();
  const ann = await world.newUser("phone");
  await world.notify([ann]);
  using held = heldFailpoint("sender.after_claim");
  const run = world.newDeliveries().run(never);
  await held.reached;
  await world.system.advance(LEASE_OVER_MS);
  const { notifications, leaseToken } = await world.backend.claim({});
  assert.equal(notifications.length, 1);
  held.release();
  await run;
  assert.deepEqual(await world.ledger(), []);
  assert.equal(
    (await world.backend.markProcessed({ leaseToken, notificationIds: [notifications[0]!.notificationId] })).marked,
    1,
  );
});

test("a late sender's report is refused, and the log says so", async () => {
  await using world = await startWorld();
  const ann = await world.newUser("phone");
  await world.notify([ann]);
  const deliveries = world.newDeliveries();
  using held = heldFailpoint("sender.after_push");
  const run = deliveries.run(never);
  await held.reached;
  await world.system.advance(LEASE_OVER_MS);
  assert.equal((await world.backend.claim({})).notifications.length, 1);
  held.release();
  await run;
  assert.deepEqual(await world.outcomes(), { [ann]: null });
  assert.match(world.logLines.at(-1)!.msg, /lease ran out/);
  await deliveries.run(never);
  assert.equal((await world.ledger()).length, 1);
});

test("R-NOT-07 while a report cannot be told, nothing new is pushed; then both are", async () => {
  await using world = await startWorld();
  const ann = await world.newUser("phone");
  await world.notify([ann], "first");
  const deliveries = world.newDeliveries();
  using held = heldFailpoint("sender.after_push");
  const run = assert.rejects(deliveries.run(never), ConnectError);
  await held.reached;
  world.network.cut();
  held.release();
  await run;
  await world.notify([ann], "second");
  await assert.rejects(() => deliveries.run(never), ConnectError);
  assert.equal((await world.ledger()).length, 1);

  // However long the outage lasts: nobody else has taken what was pushed, so it counts as pushed.
  await world.system.advance(10 * LEASE_OVER_MS);
  await world.network.heal();
  await deliveries.run(never);
  const texts = (await world.ledger()).map(({ message }) => (message.notification as { body: string }).body);
  assert.deepEqual(texts, ["first", "second"]);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
});

test("R-NOT-18 what ListUnprocessed handed to somebody else is not pushed while that lease lasts", async () => {
  await using world = await startWorld();
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("phone");
  const listed = await world.notify([ann], "listed");
  assert.equal((await world.backend.listUnprocessed({})).notifications[0]?.notificationId, listed);
  await world.notify([ann], "left");
  await deliveries.run(never);
  const texts = async () =>
    (await world.ledger()).map(({ message }) => (message.notification as { body: string }).body);
  assert.deepEqual(await texts(), ["left"]);
  await world.system.advance(LEASE_OVER_MS);
  await deliveries.run(never);
  assert.deepEqual(await texts(), ["left", "listed"]);
});

test("two senders at once push nothing twice", async () => {
  await using world = await startWorld({ batchSize: 5 });
  const ann = await world.newUser("phone");
  const ids = await Promise.all(Array.from({ length: 40 }, () => world.notify([ann])));
  await Promise.all([world.newDeliveries().run(never), world.newDeliveries().run(never)]);
  const pushed = (await world.ledger()).map(
    ({ message }) => (message.data as { notification_id: string }).notification_id,
  );
  assert.deepEqual(pushed.sort(), ids.sort());
});
