/**
 * Rights that processes share by Redis: taken where they are right, and never where they are not, whatever somebody puts there, keeps
 * or takes away, and however late or wrong Redis and clocks are.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { v7 as uuidv7 } from "uuid";
import { systemClock } from "../../src/clock.ts";
import { createLogger } from "../../src/log.ts";
import type { Revisions } from "../../src/rights/revisions.ts";
import type { Subject } from "../../src/rights/rights.ts";
import { openSharedRights, SHARED_MS } from "../../src/rights/shared-rights.ts";
import { until } from "../../src/testing/until.ts";
import { createServiceKey } from "../../src/token/key-making.ts";
import { type RedisServer, startRedis } from "./redis.ts";
import {
  RightsOwner,
  type RightsProcess,
  type RightsProcessOptions,
  startRightsProcess,
  untilUp,
} from "./rights-owner.ts";

const key = createServiceKey("auth", "access", "service");
const bakery = uuidv7();
const [anne, bert, carla] = [uuidv7(), uuidv7(), uuidv7()].map((userId) => ({ userId, organizationId: bakery })) as [
  Subject,
  Subject,
  Subject,
];

interface Setting extends AsyncDisposable {
  server: RedisServer;
  owner: RightsOwner;
  /** Another process that Redis answers. */
  start(options?: Partial<RightsProcessOptions>): Promise<RightsProcess>;
}

async function openSetting(): Promise<Setting> {
  await using opened = new AsyncDisposableStack();
  const server = opened.use(await startRedis());
  const owner = new RightsOwner();
  const resources = opened.move();
  return {
    server,
    owner,
    async start(options = {}) {
      const started = resources.use(await startRightsProcess(owner, { url: server.url, keys: [key], ...options }));
      await untilUp(started);
      return started;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Asks, and throws where the answer is not what the owner holds. */
async function ask({ owner }: Setting, { watch }: RightsProcess, subject: Subject, wanted?: Revisions): Promise<void> {
  const { rights } = await watch.rightsOf(subject, { wanted });
  const { standing, permissions } = owner.rightsOf(subject);
  assert.deepEqual([rights.standing, rights.permissions], [standing, permissions]);
}

/** How often the owner was asked meanwhile. */
async function questions({ owner }: Setting, work: () => Promise<void>): Promise<number> {
  const before = owner.questions;
  await work();
  return owner.questions - before;
}

/** A process that has asked about them, and what it has left in Redis. */
async function fill(setting: Setting, subjects: Subject[], options?: Partial<RightsProcessOptions>) {
  const writer = await setting.start(options);
  for (const subject of subjects) await ask(setting, writer, subject);
  await until("all are stored", async () => (await setting.server.client.dbsize()) >= subjects.length);
  return writer;
}

/** One that knows the organization by a question of its own, as one must that is to take what is shared. */
async function startReader(setting: Setting, options?: Partial<RightsProcessOptions>): Promise<RightsProcess> {
  const reader = await setting.start(options);
  await ask(setting, reader, carla);
  return reader;
}

/** The only key there, for whoever stored nobody else. */
async function onlyKey({ server }: Setting): Promise<string> {
  const keys = await server.client.keys("*");
  assert.equal(keys.length, 1);
  return keys[0]!;
}

test("what one process has asked another takes, as soon as it has asked about anybody there; a change ends it", async () => {
  await using setting = await openSetting();
  setting.owner.grant(anne);
  await fill(setting, [anne, bert]);
  const reader = await setting.start();
  assert.equal(await questions(setting, () => ask(setting, reader, anne)), 1, "it cannot know what is new");
  assert.equal(await questions(setting, () => ask(setting, reader, bert)), 0);
  assert.equal(reader.shared.counts.found, 1);
  const wanted = setting.owner.remove(bert);
  assert.equal(await questions(setting, () => ask(setting, reader, bert, wanted)), 1);
});

test("S-INJ-09 an old answer that somebody brings back is none, before and after the change is heard", async () => {
  await using setting = await openSetting();
  const { owner, server } = setting;
  owner.grant(anne);
  await fill(setting, [anne]);
  const name = await onlyKey(setting);
  const old = (await server.client.get(name))!;
  const early = await startReader(setting);
  owner.grant(anne);
  await owner.untilHeard();
  const late = await startReader(setting);
  for (const reader of [early, late]) {
    await server.client.set(name, old);
    assert.equal(await questions(setting, () => ask(setting, reader, anne)), 1);
    assert.equal(reader.shared.counts.found, 1);
  }
});

test("an answer of another life of the feeds is none, though its revisions are reached again", async () => {
  await using setting = await openSetting();
  const { owner } = setting;
  const before = owner.state;
  owner.grant(anne);
  await fill(setting, [anne]);
  owner.restore(before);
  owner.grant(bert);
  const reader = await startReader(setting);
  assert.equal(await questions(setting, () => ask(setting, reader, anne)), 1);
  assert.equal(reader.shared.counts.found, 0);
});

const poisons: [what: string, poison: (setting: Setting, name: string, authentic: string) => Promise<unknown>][] = [
  ["no text", ({ server }, name) => server.client.rpush(name, "a", "list")],
  ["text of others", ({ server }, name) => server.client.set(name, "\u0000\r\nSET a b")],
  ["too little", ({ server }, name, text) => server.client.set(name, text.slice(0, 40))],
  ["a part", ({ server }, name, text) => server.client.set(name, text.slice(0, -8))],
  ["one bit more", ({ server }, name, text) => server.client.set(name, flipped(text))],
  ["10 MB", ({ server }, name, text) => server.client.set(name, text.padEnd(10_000_000, "A"))],
  ["somebody else's", async ({ server }, name) => server.client.set(name, await otherOf(server, name))],
];
for (const [what, poison] of poisons) {
  test(`S-INJ-09 with ${what} in Redis, it is refused, and the owner asked`, async () => {
    await using setting = await openSetting();
    const { server, owner } = setting;
    await fill(setting, [anne]);
    const name = await onlyKey(setting);
    const authentic = (await server.client.get(name))!;
    owner.grant(bert);
    await owner.untilHeard();
    const reader = await startReader(setting);
    await until("there is another's", async () => (await server.client.dbsize()) === 2);
    await server.client.del(name);
    await poison(setting, name, authentic);
    assert.equal(await questions(setting, () => ask(setting, reader, anne)), 1);
    assert.deepEqual(reader.shared.counts, { found: 0, missing: 0, refused: 1 });
    assert.ok(reader.redis.isUp);
  });
}

function flipped(text: string): string {
  const bytes = Buffer.from(text, "base64");
  bytes[bytes.length - 3]! ^= 1;
  return bytes.toString("base64");
}

/** What is stored about another one. */
async function otherOf({ client }: RedisServer, name: string): Promise<string> {
  const other = (await client.keys("*")).find((each) => each !== name)!;
  return (await client.get(other))!;
}

test("S-INJ-09 only processes with a key in common share: during a rotation, and no callers or installations", async () => {
  await using setting = await openSetting();
  const next = createServiceKey("auth", "access", "service");
  await fill(setting, [anne], { keys: [next, key] });
  const counts = async (options: Partial<RightsProcessOptions>) => {
    const reader = await startReader(setting, options);
    await ask(setting, reader, anne);
    return reader.shared.counts;
  };
  assert.deepEqual(await counts({ keys: [key, next] }), { found: 1, missing: 0, refused: 0 });
  const other = createServiceKey("auth", "access", "service");
  assert.deepEqual(await counts({ keys: [other] }), { found: 0, missing: 0, refused: 1 });
  const backend = { ...next, caller: "backend" };
  assert.deepEqual(await counts({ keys: [backend] }), { found: 0, missing: 1, refused: 0 });
});

test("S-INJ-09 an answer of a clock that is ahead, or that Redis should have forgotten, is refused", async () => {
  await using setting = await openSetting();
  const shifted = (ms: number) => ({ ...systemClock, now: () => systemClock.now() + ms });
  const cases: [whose: "writer" | "reader", ms: number, found: number][] = [
    ["writer", 3_000, 1],
    ["writer", 60_000, 0],
    ["writer", -SHARED_MS - 1_000, 0],
    ["reader", SHARED_MS - 10_000, 1],
    ["reader", SHARED_MS + 1_000, 0],
  ];
  for (const [whose, ms, found] of cases) {
    await setting.server.client.flushall();
    await fill(setting, [anne], whose === "writer" ? { clock: shifted(ms) } : {});
    const name = await onlyKey(setting);
    assert.ok((await setting.server.client.pttl(name)) <= SHARED_MS);
    await setting.server.client.persist(name);
    const reader = await startReader(setting, whose === "reader" ? { clock: shifted(ms) } : {});
    await ask(setting, reader, anne);
    assert.deepEqual(reader.shared.counts, { found, missing: 0, refused: 1 - found }, `${whose} ${ms}`);
  }
});

test("S-INJ-09 S-LOG-01 S-SDK-09 names and ids are not to be seen in keys, other ids become none, secrets go nowhere", async () => {
  await using setting = await openSetting();
  const lines: string[] = [];
  const log = createLogger({ level: "debug", mode: "production", destination: { write: (line) => lines.push(line) } });
  const { redis } = await fill(setting, [anne, { userId: bert.userId, organizationId: "" }], { log });
  const { client } = setting.server;
  const shared = openSharedRights({ redis, keys: [key], clock: systemClock });
  const rights = setting.owner.rightsOf(anne);
  for (const strange of ["*", "a:b", "a\r\nFLUSHALL\r\n", `${anne.userId}:x`, ""]) {
    shared.store({ userId: strange, organizationId: bakery }, ["1", "1"], rights);
    shared.store({ userId: anne.userId, organizationId: strange || "x" }, ["1", "1"], rights);
    assert.equal(await shared.find({ userId: strange, organizationId: bakery }, ["1", "1"]), undefined);
  }
  const keys = await client.keys("*");
  assert.equal(keys.length, 2);
  for (const name of keys) assert.match(name, /^concierge:rights:[\w-]{43}$/);
  const stored = (await client.mget(...keys)).map((text) => Buffer.from(text!, "base64").toString("latin1"));
  const secret = Buffer.from(key.secret, "base64url").toString("latin1");
  const shown = inspect({ redis, shared }, { depth: 10, showHidden: true });
  for (const text of [...stored, ...keys, ...lines, shown]) {
    assert.ok(![secret, key.secret, anne.userId, bert.userId].some((canary) => text.includes(canary)));
  }
});

test("an answer that is too long for others is asked for by each", async () => {
  await using setting = await openSetting();
  const { redis } = await setting.start();
  const shared = openSharedRights({ redis, keys: [key], clock: systemClock });
  const branches = (count: number) => new Map(Array.from({ length: count }, () => [uuidv7(), new Set<string>()]));
  const rights = setting.owner.rightsOf(anne);
  shared.store(anne, [], { ...rights, branches: branches(1_000) });
  shared.store(bert, [], { ...rights, branches: branches(2_000) });
  await until("the first one is found", async () => (await shared.find(anne, []))?.branches.size === 1_000);
  assert.equal(await shared.find(bert, []), undefined);
  assert.deepEqual([shared.counts.found, shared.counts.refused], [1, 0]);
});
