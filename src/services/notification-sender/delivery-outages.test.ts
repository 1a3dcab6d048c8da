/** Deliveries while FCM, its answers, our key or notification are away: how often is asked, and that nothing is lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { createServiceAccount } from "../../dev/push-stand-in.ts";
import { never, PROJECT, startWorld } from "./testing.ts";

/** More than the first wait for another try. */
const FIRST_WAIT_OVER_MS = 13_000;

test("what FCM cannot take now is tried again when its wait is over, and said once in the log", async () => {
  await using world = await startWorld({ batchSize: 1 });
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("flaky-2-a");
  await world.notify([ann]);
  for (const expected of [null, null, "sent"]) {
    await deliveries.run(never);
    await deliveries.run(never);
    assert.deepEqual(await world.outcomes(), { [ann]: expected });
    await world.system.advance(2 * FIRST_WAIT_OVER_MS);
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

test("R-NOT-03 what FCM has but did not answer is pushed again under the same identity, and counted as unknown", async () => {
  await using world = await startWorld();
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("dropped-phone");
  const notificationId = await world.notify([ann]);
  await deliveries.run(never);
  await world.system.advance(FIRST_WAIT_OVER_MS);
  await deliveries.run(never);
  const identities = (await world.ledger()).map(({ message }) => [
    (message.android as { collapse_key: string }).collapse_key,
    (message.data as { notification_id: string }).notification_id,
  ]);
  assert.deepEqual(identities, Array(2).fill([notificationId, notificationId]));
  assert.deepEqual(await world.tries(), { [ann]: 2 });
  assert.equal(world.count("unanswered"), 2);
});

test("R-NOT-08 a quota that is used up is one batch of pushes a pause, as long as FCM asks, and costs nobody a try", async () => {
  await using world = await startWorld({ batchSize: 2 });
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("quota-40-phone");
  for (const text of ["1", "2", "3", "4", "5"]) await world.notify([ann], text);
  for (const attempts of [2, 4]) {
    await deliveries.run(never);
    await deliveries.run(never);
    assert.equal(world.attempts(), attempts);
    await world.system.advance(39_000);
    await deliveries.run(never);
    assert.equal(world.attempts(), attempts, "nothing before FCM's time");
    await world.system.advance(1_000);
  }
  assert.deepEqual(await world.tries(), { [ann]: 0 });
});

test("R-NOT-08 an outage is one batch of pushes a pause, and each waits 10 s for its second try", async () => {
  await using world = await startWorld({ batchSize: 2 });
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("unavailable-phone");
  for (const text of ["1", "2", "3"]) await world.notify([ann], text);
  const attemptsAfter: number[] = [];
  for (const ms of [0, 0, 1_000, 5_000]) {
    await world.system.advance(ms);
    await deliveries.run(never);
    attemptsAfter.push(world.attempts());
  }
  assert.deepEqual(attemptsAfter, [2, 2, 3, 3]);
  await world.system.advance(FIRST_WAIT_OVER_MS);
  await deliveries.run(never);
  assert.equal(world.attempts(), 5);
});

test("R-NOT-08 a device that is gone in each batch does not make the sender run on against a used-up quota", async () => {
  await using world = await startWorld({ batchSize: 2 });
  const deliveries = world.newDeliveries();
  const [ann, bob] = [await world.newUser("quota-40-phone"), await world.newUser("invalid-phone")];
  for (const text of ["1", "2", "3", "4"]) await world.notify([ann, bob], text);
  for (const attempts of [2, 4]) {
    await deliveries.run(never);
    await deliveries.run(never);
    assert.equal(world.attempts(), attempts);
    await world.system.advance(40_000);
  }
});

test("R-NOT-11 with the key of another project nothing is given up, and one error says so", async () => {
  await using world = await startWorld({ batchSize: 2 });
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("sender-mismatch-phone");
  const bob = await world.newUser("sender-mismatch-tablet");
  for (const text of ["1", "2", "3"]) await world.notify([ann, bob], text);
  await deliveries.run(never);
  await deliveries.run(never);
  assert.equal(world.attempts(), 2, "one batch a pause");
  assert.deepEqual(await world.tries(), { [ann]: 0, [bob]: 0 });
  assert.deepEqual(await world.outcomes(), { [ann]: null, [bob]: null });
  assert.deepEqual(
    world.logLines.map(({ level, codes }) => [level, codes]),
    [["error", ["messaging/mismatched-credential"]]],
  );
});

test("S-NOT-09 a device of another project among others is rejected, and pauses nothing", async () => {
  await using world = await startWorld();
  const [ann, bob] = [await world.newUser("phone"), await world.newUser("sender-mismatch-phone")];
  await world.notify([ann, bob], "first");
  const deliveries = world.newDeliveries();
  await deliveries.run(never);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent", [bob]: "failed" });
  await world.notify([bob], "second");
  await deliveries.run(never);
  assert.equal(world.count("rejected"), 2, "the key has sent, so it is the device");
});

test("R-NOT-11 with a key that is refused nothing is claimed, one error says so, and nothing is lost", async () => {
  await using world = await startWorld({ key: createServiceAccount(PROJECT) });
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("phone");
  await world.notify([ann]);
  for (let run = 0; run < 3; run++) {
    await deliveries.run(never);
    await deliveries.run(never);
    await world.system.advance(10_000);
  }
  assert.deepEqual(world.calls, []);
  assert.equal(world.attempts(), 3, "the token endpoint is asked once a pause");
  assert.deepEqual(
    world.logLines.map(({ level, codes }) => [level, codes]),
    [["error", ["push/credentials-refused"]]],
  );
  assert.deepEqual(await world.outcomes(), { [ann]: null });
  assert.equal((await world.backend.claim({})).notifications.length, 1);
});

test("R-NOT-06 while notification is away a run is one call, and the first one after it delivers", async () => {
  await using world = await startWorld();
  const deliveries = world.newDeliveries();
  const ann = await world.newUser("phone");
  await world.notify([ann]);
  world.network.cut();
  for (let run = 0; run < 3; run++) {
    await assert.rejects(() => deliveries.run(never), ConnectError);
    assert.deepEqual(world.calls.splice(0), ["claim"]);
  }
  await world.network.heal();
  await deliveries.run(never);
  assert.deepEqual(await world.outcomes(), { [ann]: "sent" });
  assert.deepEqual(world.calls, ["claim", "extendLease", "markProcessed", "claim"]);
});
