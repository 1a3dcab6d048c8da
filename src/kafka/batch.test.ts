/** What is published, and what is parked, of events that brokers or the writer refuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FeedEvent } from "../feed/tail.ts";
import { Random } from "../testing/seeded.ts";
import { Batch, prepareEvents } from "./batch.ts";
import { NotPublished } from "./publisher.ts";
import { UnwritableEvent } from "./records.ts";

/** "a1" is version 1 of subject a; "a2!" is refused by brokers, "a2?" cannot be written. */
async function publish(names: string[], waiting: string[] = []) {
  const brokers: string[] = [];
  const refused: string[] = [];
  const batch = new Batch({
    publisher: {
      async publish(records) {
        const values = records.map(({ value }) => value.toString());
        if (values.some((value) => value.endsWith("!"))) {
          throw new NotPublished(Object.assign(new Error(), { apiId: "MESSAGE_TOO_LARGE" }));
        }
        brokers.push(...values);
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    waiting: new Set(waiting),
    onRefused: ({ id }) => void refused.push(id),
  });
  await batch.publish(prepareEvents(names.map(eventNamed), "epoch", recordsOf));
  return { brokers, parked: batch.parked.map(({ id }) => id), refused, published: batch.published };
}

function recordsOf({ id, subject }: FeedEvent) {
  if (id.endsWith("?")) throw new UnwritableEvent("no");
  return [{ topic: "t", key: Buffer.from(subject), value: Buffer.from(id), headers: new Map() }];
}

function eventNamed(id: string): FeedEvent {
  const rest = { position: 1n, type: "t", version: 1n, createdAt: new Date(), payload: new Uint8Array() };
  return { ...rest, id, subject: id[0]! };
}

test("R-OBX-08 a refused event is found among others, and later ones about its subject wait behind it", async () => {
  const { brokers, parked, refused } = await publish(["a1", "b1", "a2!", "c1", "a3", "b2", "b3?", "b4", "c2"]);
  assert.deepEqual(brokers, ["a1", "b1", "c1", "b2", "c2"]);
  assert.deepEqual(parked, ["a2!", "a3", "b3?", "b4"]);
  assert.deepEqual(refused, ["a2!", "b3?"]);
});

test("R-OBX-08 what is about a subject that waits already is parked without being tried", async () => {
  const { brokers, parked, refused } = await publish(["a5", "b1", "a6!"], ["a"]);
  assert.deepEqual([brokers, parked, refused], [["b1"], ["a5", "a6!"], []]);
});

test("R-OBX-08 whatever is refused, each subject's events keep their order and each event is in one place", async () => {
  const random = new Random(11, 0);
  for (let round = 0; round < 200; round++) {
    const names = Array.from({ length: 20 }, (_, index) => {
      return `${"abc"[random.below(3)]}${index}${random.oneIn(6) ? "!" : random.oneIn(8) ? "?" : ""}`;
    });
    const { brokers, parked, published } = await publish(names);
    assert.equal(published, brokers.length);
    assert.deepEqual([...brokers, ...parked].sort(), [...names].sort());
    for (const subject of "abc") {
      const own = (ids: string[]) => ids.filter((id) => id.startsWith(subject));
      assert.deepEqual([...own(brokers), ...own(parked)], own(names));
    }
  }
});
