/** Deliveries when senders die, are slow, late or told to stop: nothing is lost, and nothing is pushed without a lease. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { armFailpoint, type FailpointName, heldFailpoint } from "../../failpoints.ts";
import { until } from "../../testing/until.ts";
import { devices } from "../notification/schema.ts";
import { LEASE_OVER_MS, LEASE_SECONDS, never, startWorld } from "./testing.ts";

for (const [name, pushesLost, outcome] of [
  ["sender.after_claim", 0, null],
  ["sender.before_push", 0, null],
  ["sender.after_push", 1, null],
  ["sender.after_mark", 0, "sent"],
] satisfies [FailpointName, number, string | null][]) {
  test(`R-NOT-01 a sender that dies at ${name} loses nothing`, async () => {
    await using world = await startWorld();
    const ann = await world.newUser("phone");
    await world.notify([ann]);
    {
      using _ = armFailpoint(name, "error");
      await assert.rejects(() => world.newDeliveries().run(never), new RegExp(name));
    }
    assert.deepEqual(await world.outcomes(), { [ann]: outcome });
    const successor = world.newDeliveries();
    await successor.run(never);
    assert.equal((await world.ledger()).length, outcome ? 1 : pushesLost, "nothing is pushed inside the lease");
    await world.system.advance(LEASE_OVER_MS);
    await successor.run(never);
    const ledger = await world.ledger();
    assert.equal(ledger.length, pushesLost + 1);
    const keys = ledger.map(({ message }) => (message.android as { collapse_key: string }).collapse_key);
    assert.equal(new Set(keys).size, 1);
    assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
  });
}

for (const [ms, isTaken] of [
  [LEASE_OVER_MS, true],
  [LEASE_SECONDS * 700, false],
] as const) {
  test(`R-NOT-17 nothing is pushed ${ms} ms into a lease of ${LEASE_SECONDS} s`, async () => {
    await using world = await startWorld();
    const ann = await world.newUser("phone");
    await world.notify([ann]);
    const deliveries = world.newDeliveries();
    using held = heldFailpoint("sender.before_push");
    const stopping = new AbortController();
    const run = deliveries.run(stopping.signal);
    await held.reached;
    await world.system.advance(ms);
    const other = await world.backend.claim({});
    assert.equal(other.notifications.length, Number(isTaken));
    // Only so that it does not claim again what it gives back.
    stopping.abort();
    held.release();
    await run;
    assert.deepEqual(await world.ledger(), []);
    if (isTaken) {
      const notificationIds = other.notifications.map(({ notificationId }) => notificationId);
      assert.equal((await world.backend.markProcessed({ leaseToken: other.leaseToken, notificationIds })).marked, 1);
    } else {
      assert.equal((await world.backend.claim({})).notifications.length, 1, "it was given back at once");
    }
  });
}

test("R-NOT-09 while FCM is slow the lease is prolonged, and nobody else pushes the same", async () => {
  await using world = await startWorld({ leaseSeconds: 5 });
  const ann = await world.newUser("slow-2500-phone");
  await world.notify([ann]);
  const run = world.newDeliveries().run(never);
  await until("the push", async () => (await world.ledger()).length === 1);
  await world.system.advance(2_000);
  await until("a beat", () => world.calls.filter((name) => name === "extendLease").length === 2);
  await world.system.advance(2_000);
  assert.deepEqual((await world.backend.claim({})).notifications, []);
  await run;
  assert.equal((await world.ledger()).length, 1);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
});

test("what a sender that is told to stop has not begun goes to others at once", async () => {
  await using world = await startWorld();
  const ann = await world.newUser("phone");
  await world.notify([ann]);
  const stopping = new AbortController();
  using held = heldFailpoint("sender.after_claim");
  const run = world.newDeliveries().run(stopping.signal);
  await held.reached;
  stopping.abort();
  held.release();
  await run;
  assert.deepEqual(await world.ledger(), []);
  await world.newDeliveries().run(never);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
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

test("R-NOT-17 of a hundred pushed recipients one is lost: the others are marked, and not pushed again", async () => {
  await using world = await startWorld({ batchSize: 100 });
  const users = Array.from({ length: 100 }, () => crypto.randomUUID());
  await world.db.insert(devices).values(
    users.map((userId, index) => {
      const token = `phone ${index}`;
      return { id: crypto.randomUUID(), userId, token, tokenHash: token, platform: "web" as const };
    }),
  );
  await world.notify(users);
  const deliveries = world.newDeliveries();
  using held = heldFailpoint("sender.after_push");
  const run = deliveries.run(never);
  await held.reached;
  await world.system.advance(LEASE_OVER_MS);
  const other = await world.backend.claim({ limit: 1 });
  const lost = other.notifications.flatMap(({ userIds }) => userIds);
  held.release();
  await run;
  await deliveries.run(never);
  const waiting = Object.entries(await world.outcomes()).filter(([, outcome]) => outcome !== "sent");
  assert.deepEqual(waiting, [[lost[0], null]]);
  assert.equal(lost.length, 1);
  const pushed = await world.pushedTokens();
  assert.deepEqual([pushed.length, new Set(pushed).size], [100, 100]);
  assert.match(world.logLines.at(-1)!.msg, /lease ran out/);
});

test("a push that fails as it must not ends its run, and its lease is not prolonged any more", async () => {
  await using world = await startWorld({ leaseSeconds: 6 });
  const [ann, bob] = [await world.newUser("ann's phone"), await world.newUser("slow-2500-phone")];
  await world.notify([ann]);
  const broken = {
    prepare: async () => undefined,
    send: () => Promise.reject(new Error("broken")),
    async [Symbol.asyncDispose]() {},
  };
  await assert.rejects(() => world.newDeliveries({ pusher: broken }).run(never), /broken/);
  await world.notify([bob]);
  // As long as one beat.
  await world.newDeliveries().run(never);
  assert.equal(world.calls.filter((name) => name === "extendLease").length, 3);
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
