/** Deliveries, run by run: who gets which push, how often, and what is told of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eq } from "drizzle-orm";
import { heldFailpoint } from "../../failpoints.ts";
import { startTraceCollector } from "../../testing/trace-collector.ts";
import { devices, notifications, deliveries as workList } from "../notification/schema.ts";
import { LEASE_OVER_MS, never, startWorld } from "./testing.ts";

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

test("S-NOT-13 a device that moves between claim and push does not get what its old owner was told", async () => {
  await using world = await startWorld();
  const ann = await world.newUser("shared phone", "ann's tablet");
  await world.notify([ann], "for ann only");
  using held = heldFailpoint("sender.after_claim");
  const run = world.newDeliveries().run(never);
  await held.reached;
  await world.newUser("shared phone");
  held.release();
  await run;
  assert.deepEqual(await world.pushedTokens(), ["ann's tablet"]);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
});

test("what is taken back between claim and push is not pushed, and the rest is", async () => {
  await using world = await startWorld();
  const [ann, bob] = [await world.newUser("ann's phone"), await world.newUser("bob's phone")];
  await world.notify([ann, bob]);
  using held = heldFailpoint("sender.after_claim");
  const run = world.newDeliveries().run(never);
  await held.reached;
  await world.db.delete(workList).where(eq(workList.userId, ann));
  held.release();
  await run;
  assert.deepEqual(await world.pushedTokens(), ["bob's phone"]);
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
  await world.system.advance(31_000);
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

test("a push is part of the trace in which its notification was created", async () => {
  await using collector = await startTraceCollector();
  const [traceId, spanId] = ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"];
  {
    await using world = await startWorld({ tracesUrl: collector.url });
    for (const token of ["phone", "internal-phone"]) await world.notify([await world.newUser(token)]);
    await world.db.update(notifications).set({ traceparent: `00-${traceId}-${spanId}-01` });
    await world.newDeliveries().run(never);
  }
  const seen = collector.spans.map((span) => [span.traceId, span.parentSpanId, span.name, span.kind, span.status]);
  assert.deepEqual(seen.sort(), [
    [traceId, spanId, "push notification", 3, 0],
    [traceId, spanId, "push notification", 3, 2],
  ]);
});
