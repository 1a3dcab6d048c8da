/** The keys that a service follows: fetched over HTTP from a server of the test's own, and kept when that fails. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { createTestClock } from "../testing/clock.ts";
import { createSigningKeys } from "./key-making.ts";
import { fixedKeyRing, remoteKeyRing } from "./key-ring.ts";
import { type KeySet, publicKeySet } from "./signing-keys.ts";

type Answer = (response: ServerResponse) => void;

describe("a ring that follows a key set", () => {
  let requests = 0;
  let answer: Answer;
  const server = createServer((_, response) => {
    requests++;
    answer(response);
  });
  let url: string;
  let first: KeySet;
  let second: KeySet;
  const publish = (set: KeySet): Answer => {
    return (response) => response.end(JSON.stringify(publicKeySet(set)));
  };

  before(async () => {
    [first, second] = await Promise.all([createSigningKeys("ES256"), createSigningKeys("EdDSA")]);
    await once(server.listen(0, "127.0.0.1"), "listening");
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
  });

  after(() => {
    server.closeAllConnections();
    server.close();
  });

  beforeEach(() => {
    requests = 0;
    answer = publish(first);
  });

  test("is empty until the first keys are there", async () => {
    const ring = remoteKeyRing(url, createTestClock());
    assert.deepEqual([ring.generation, ring.find(first.keys[0]!.kid)], [0, undefined]);
    await ring.refresh();
    assert.equal(ring.generation, 1);
    assert.equal(ring.find(first.keys[0]!.kid)?.alg, "ES256");
    for (const kid of ["__proto__", "constructor", "toString", ""]) assert.equal(ring.find(kid), undefined);
  });

  test("its generation grows with every change, and with nothing else", async () => {
    const ring = remoteKeyRing(url, createTestClock());
    const generations: number[] = [];
    for (const set of [first, first, second, { keys: [...first.keys, ...second.keys] }, first]) {
      answer = publish(set);
      await ring.refresh();
      generations.push(ring.generation);
    }
    assert.deepEqual(generations, [1, 1, 2, 3, 4]);
    assert.equal(ring.find(second.keys[0]!.kid), undefined, "a key that is gone is gone");
  });

  const failures: [what: string, answer: Answer][] = [
    ["an error", (response) => response.writeHead(500).end(JSON.stringify({ keys: [] }))],
    ["a redirect", (response) => response.writeHead(302, { location: "/elsewhere" }).end()],
    ["no JSON", (response) => response.end("<html>")],
    ["JSON without keys", (response) => response.end("{}")],
    [
      "a key of another kind",
      (response) => response.end(JSON.stringify({ keys: [{ kty: "oct", k: "c2VjcmV0", kid: "k", alg: "HS256" }] })),
    ],
    [
      "a key under another algorithm",
      (response) => response.end(JSON.stringify({ keys: [{ ...first.keys[0], alg: "RS256" }] })),
    ],
    ["a connection that breaks", (response) => response.destroy()],
  ];
  for (const [what, failure] of failures) {
    test(`${what} instead of a key set keeps the ring as it was`, async () => {
      const ring = remoteKeyRing(url, createTestClock());
      await ring.refresh();
      answer = failure;
      await assert.rejects(ring.refresh());
      await ring.lookAgain();
      assert.equal(ring.generation, 1);
      assert.ok(ring.find(first.keys[0]!.kid));
      answer = publish(second);
      await ring.refresh();
      assert.ok(ring.find(second.keys[0]!.kid), "and it recovers");
    });
  }

  test("S-JWT-05 looks again for an unknown key id at most once in 30 seconds, by the clock", async () => {
    const clock = createTestClock();
    const ring = remoteKeyRing(url, clock);
    await ring.refresh();
    requests = 0;
    for (let round = 0; round < 100; round++) await Promise.all([ring.lookAgain(), ring.lookAgain()]);
    assert.equal(requests, 1);
    clock.advance(29_999);
    await ring.lookAgain();
    assert.equal(requests, 1);
    clock.advance(1);
    answer = publish(second);
    await Promise.all([ring.lookAgain(), ring.lookAgain()]);
    assert.equal(requests, 2);
    assert.ok(ring.find(second.keys[0]!.kid));
  });

  test("S-JWT-05 a failed look counts, too", async () => {
    const clock = createTestClock();
    const ring = remoteKeyRing(url, clock);
    answer = (response) => response.destroy();
    for (let round = 0; round < 10; round++) await ring.lookAgain();
    assert.equal(requests, 1);
    assert.equal(ring.generation, 0);
  });

  test("all who ask while keys are being fetched wait for that one fetch", async () => {
    const ring = remoteKeyRing(url, createTestClock());
    const asked = Promise.withResolvers<ServerResponse>();
    answer = asked.resolve;
    const waiting = [ring.refresh(), ring.refresh(), ring.lookAgain()];
    publish(first)(await asked.promise);
    await Promise.all(waiting);
    assert.equal(requests, 1);
    assert.equal(ring.generation, 1);
  });
});

test("auth's own ring is there from the start, and never changes", async () => {
  const set = await createSigningKeys("ES256");
  const ring = fixedKeyRing(set);
  await ring.refresh();
  await ring.lookAgain();
  assert.equal(ring.generation, 0);
  assert.equal(ring.find(set.keys[0]!.kid)?.key.type, "public");
});
