/**
 * Limits that replicas share by Redis, and that hold without it: gone, silent, emptied, with the wrong password, or
 * full of what somebody else put there.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Clock, systemClock } from "../../src/clock.ts";
import { makeDevelopmentCertificates } from "../../src/dev/certificates.ts";
import { createLogger } from "../../src/log.ts";
import { openRedis, type Redis } from "../../src/redis.ts";
import type { Pace } from "../../src/rpc/overload.ts";
import { createSharedPace } from "../../src/rpc/shared-pace.ts";
import { createTestClock } from "../../src/testing/clock.ts";
import { startFaultProxy } from "../../src/testing/fault-proxy.ts";
import { until } from "../../src/testing/until.ts";
import { startRedis } from "./redis.ts";

const ADDRESS = "192.0.2.1";
/** A burst of 50 calls. */
const LIMITS = { costMs: 100, burstMs: 5_000 };
const BURST = 50;
const LONGEST_WAIT_MS = 10_000;
const PASSWORD = "kXw3zQ8vT5nB1mR7yL4c";

interface Replica extends AsyncDisposable {
  pace: Pace;
  redis: Redis;
  /** What it has logged. */
  text(): string;
}

async function startReplica(
  url: string,
  { clock = systemClock, caPath, scope = "user" }: { clock?: Clock; caPath?: string; scope?: string } = {},
): Promise<Replica> {
  await using opened = new AsyncDisposableStack();
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ level: "info", mode: "production", destination });
  const ca = caPath && (await readFile(caPath, "utf8"));
  const redis = opened.use(await openRedis({ url, ca, shares: "limits", timeoutMs: 2_000, clock, log }));
  const { pace } = opened.use(createSharedPace(LIMITS, clock, redis, scope));
  const resources = opened.move();
  return { pace, redis, text: () => lines.join(""), [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/** Calls as often as it is let; gives back how often that was. */
function useUp(pace: Pace, address: string): number {
  for (let calls = 0; ; calls++) if (pace(address) > 0) return calls;
}

const isUp = ({ redis }: Replica) => redis.isUp;

/** A call to look at Redis, in the name of nobody. */
async function untilUp(replica: Replica): Promise<void> {
  await until("Redis answers the replica", async () => {
    await replica.redis.run("return 1", [], []);
    return isUp(replica);
  });
}

/** Whether what one has let through keeps the other from letting as much through. */
async function assertShared(one: Replica, other: Replica, address: string): Promise<void> {
  assert.ok(useUp(one.pace, address) >= BURST);
  let calls = 0;
  await until("the other has heard of it", () => other.pace(address) > 0 || ++calls > BURST);
  assert.ok(calls < BURST, `the other let ${calls} through`);
}

test("what one replica lets through counts in the other, for that address and that service", async () => {
  await using server = await startRedis();
  await using one = await startReplica(server.url);
  await using other = await startReplica(server.url);
  await using stranger = await startReplica(server.url, { scope: "auth" });
  for (const replica of [one, other, stranger]) await untilUp(replica);
  await assertShared(one, other, ADDRESS);
  assert.ok(useUp(other.pace, "192.0.2.2") >= BURST);
  assert.ok(useUp(stranger.pace, ADDRESS) >= BURST);
});

test("what both let through at once is paid off by both", async () => {
  await using server = await startRedis();
  const clock = createTestClock();
  await using one = await startReplica(server.url, { clock });
  await using other = await startReplica(server.url, { clock });
  for (const replica of [one, other]) await untilUp(replica);
  assert.deepEqual([useUp(one.pace, ADDRESS), useUp(other.pace, ADDRESS)], [BURST, BURST]);
  await until("both know of both", () => [one, other].some(({ pace }) => pace(ADDRESS) > LIMITS.burstMs / 2));
});

test("with Redis gone each counts for itself, and with Redis back they share again", async () => {
  await using server = await startRedis();
  await using one = await startReplica(server.url);
  await using other = await startReplica(server.url);
  for (const replica of [one, other]) await untilUp(replica);
  await server.kill();
  for (const replica of [one, other]) {
    const calls = useUp(replica.pace, ADDRESS);
    assert.ok(calls >= BURST && calls < 2 * BURST, `${calls} calls`);
    await until("it has noticed", () => !isUp(replica));
  }
  await server.start();
  for (const replica of [one, other]) await untilUp(replica);
  await assertShared(one, other, "192.0.2.3");
});

test("with Redis silent, first or later, each counts for itself, asks it rarely, and finds it again", async () => {
  await using server = await startRedis({ password: PASSWORD });
  await using proxy = await startFaultProxy({ host: "127.0.0.1", port: server.port });
  proxy.hang();
  const clock = createTestClock();
  const url = server.url.replace(String(server.port), String(proxy.port));
  await using replica = await startReplica(url, { clock, caPath: server.authorityPath });
  await until("it has noticed", () => replica.text().includes("does not answer"));
  await proxy.heal();
  const untilFound = () =>
    until("it has found Redis", async () => {
      clock.advance(1_000);
      return (await replica.redis.run("return 1", [], [])) === 1;
    });
  await untilFound();
  proxy.hang();
  assert.equal(useUp(replica.pace, ADDRESS), BURST);
  await until("it has noticed", () => !isUp(replica));
  const failures = replica.redis.failures;
  assert.equal(await replica.redis.run("return 1", [], []), undefined);
  assert.equal(replica.redis.failures, failures, "it was asked although it is left alone");
  await proxy.heal();
  await untilFound();
});

test("with Redis emptied a replica remembers what it let through itself", async () => {
  await using server = await startRedis();
  await using replica = await startReplica(server.url, { clock: createTestClock() });
  await untilUp(replica);
  assert.equal(useUp(replica.pace, ADDRESS), BURST);
  await until("Redis knows of it", () => server.client.dbsize());
  await server.client.flushall();
  assert.ok(replica.pace(ADDRESS) > 0);
});

const poisons = ["", "abc", "nan", "inf", "-inf", "-1e300", "1e300", "0x7fffffffffffffff", "\u0000\r\nSET a b"];
for (const poison of [...poisons, ["a list"]]) {
  test(`S-INJ-09 with ${JSON.stringify(poison)} in Redis nobody gets more, nor waits over 10 s`, async () => {
    await using server = await startRedis();
    const clock = createTestClock();
    await using replica = await startReplica(server.url, { clock });
    await untilUp(replica);
    const key = replica.redis.keyOf("pace", "user", ADDRESS);
    if (Array.isArray(poison)) await server.client.rpush(key, ...poison);
    else await server.client.set(key, poison);
    assert.equal(replica.pace(ADDRESS), 0);
    // With a time to end, which it may have come to by now.
    await until("it is overwritten", async () => (await server.client.pttl(key)) !== -1);
    const stored = await server.client.get(key);
    assert.ok(stored === null || Number(stored) > 0, `${stored}`);
    assert.ok(useUp(replica.pace, ADDRESS) < BURST);
    assert.ok(replica.pace(ADDRESS) <= LONGEST_WAIT_MS);
    clock.advance(LONGEST_WAIT_MS);
    assert.equal(replica.pace(ADDRESS), 0);
    assert.ok(isUp(replica), replica.text());
  });
}

test("S-INJ-09 no text gets into a key, and none shows whose it is", async () => {
  await using server = await startRedis();
  await using replica = await startReplica(server.url);
  await untilUp(replica);
  const texts = [ADDRESS, "a:b", "a\r\nFLUSHALL\r\n", "*", "x".repeat(10_000)];
  for (const text of texts) useUp(replica.pace, text);
  const keys = await until("all are there", async () => {
    const found = await server.client.keys("*");
    return found.length === texts.length && found;
  });
  for (const key of keys) assert.match(key, /^concierge:pace:[\w-]{43}$/);
  const { keyOf } = replica.redis;
  assert.notEqual(keyOf("pace", "a", "b:c"), keyOf("pace", "a:b", "c"));
  assert.notEqual(keyOf("pace", 'a","b'), keyOf("pace", "a", "b"));
});

test("S-INJ-09 by TLS and with a password; with a wrong one, or another authority, each by itself", async () => {
  await using server = await startRedis({ password: PASSWORD });
  const folder = await mkdtemp(join(tmpdir(), "concierge-authority-"));
  await using _ = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
  const { authorityPath: another } = await makeDevelopmentCertificates(folder, ["localhost"], systemClock);
  const caPath = server.authorityPath;
  await using one = await startReplica(server.url, { caPath });
  await using other = await startReplica(server.url, { caPath });
  for (const replica of [one, other]) await untilUp(replica);
  await assertShared(one, other, ADDRESS);
  const wrong: [url: string, caPath: string | undefined, cause: string][] = [
    [server.url.replace(PASSWORD, "wQ8vT5nB1mR7yL4ckXw3"), caPath, "WRONGPASS"],
    [server.url, another, "CERT"],
    [server.url, undefined, "CERT"],
    [server.url.replace("rediss", "redis"), caPath, ""],
  ];
  for (const [url, authority, cause] of wrong) {
    await using replica = await startReplica(url, { caPath: authority });
    await until("it has noticed", () => replica.text().includes("does not answer"));
    assert.match(replica.text(), new RegExp(cause, "i"));
    assert.ok(!replica.text().includes(new URL(url).password), "the password is in the log");
    assert.ok(useUp(replica.pace, "192.0.2.9") >= BURST);
    assert.ok(!isUp(replica));
  }
});
