/** The client that other teams use, with a Redis by which its processes share rights: what it spares access, and what its loss costs. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import type { AuthClient, AuthClientOptions } from "../../src/client/auth-client.ts";
import { systemClock } from "../../src/clock.ts";
import { createTestClient } from "../../src/testing/auth-clients.ts";
import { addMember, makeOrganization } from "../../src/testing/memberships.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../src/testing/system.ts";
import { until } from "../../src/testing/until.ts";
import { type RedisServer, startRedis } from "./redis.ts";

/** What a question may take on a busy machine; whoever waits for a silent Redis takes the two seconds of its connection. */
const LONGEST_MS = 1_500;
const COUNT =
  /^rpc_server_call_duration_seconds_count\{method="\/concierge\.access\.v1\.AccessInternalService\/GetUserPermissions".*\} (\d+)$/gm;

let system: TestSystem;
let owner: TestUser;
let clerk: TestUser;
let organizationId: string;
const opened = new AsyncDisposableStack();

before(async () => {
  const clock = { ...systemClock, advance: () => assert.fail("time passes by itself here") };
  system = opened.use(await startTestSystem({ clock }));
  [owner, clerk] = [await system.newUser(), await system.newUser()];
  organizationId = await makeOrganization(system, owner);
  await addMember({ system, owner, organizationId }, clerk);
  await asOwner().createRole({ name: "cashier", permissions: ["branches:update"] });
});
after(() => opened.disposeAsync());

function asOwner() {
  return system.asMember(AccessService, owner, organizationId);
}

/** Questions that access was asked. */
async function questions(): Promise<number> {
  const text = await (await fetch(`${system.internalUrl}/metrics`)).text();
  return [...text.matchAll(COUNT)].reduce((sum, [, count]) => sum + Number(count), 0);
}

async function startClient(redis: AuthClientOptions["redis"]): Promise<AuthClient> {
  const client = createTestClient(system, owner, { redis });
  await client.ready;
  return client;
}

function decide(client: AuthClient, userId: string) {
  return client.decidePermission({ userId, organizationId, permission: "branches:update" });
}

const people = (count: number) => Array.from({ length: count }, () => crypto.randomUUID());

/** Resolves when each of them finds what the other one has asked. */
async function untilShared(clients: [AuthClient, AuthClient]): Promise<void> {
  for (const [asking, finding] of [clients, clients.toReversed()] as [AuthClient, AuthClient][]) {
    await until("answers are shared", async () => {
      const [person] = people(1) as [string];
      await decide(asking, person);
      const asked = await questions();
      await decide(finding, person);
      return (await questions()) === asked;
    });
  }
}

test("R-SDK-05 two clients share a Redis: what one has asked, access is not asked again; a change counts in both", async () => {
  await using server = await startRedis({ password: "sixteen-bytes-or-more" });
  const redis = { url: server.url, ca: await readFile(server.authorityPath!, "utf8") };
  await using first = await startClient(redis);
  await using second = await startClient(redis);
  await untilShared([first, second]);
  // A single answer of Redis that takes longer than 50 ms, on a busy machine, makes a client ask for a second.
  await until("the second one asks nobody", async () => {
    const asked = people(20);
    for (const person of asked) assert.equal(await decide(first, person), "denied");
    const before = await questions();
    for (const person of asked) assert.equal(await decide(second, person), "denied");
    return (await questions()) === before;
  });

  assert.equal(await decide(first, clerk.userId), "denied");
  await asOwner().assignRole({ userId: clerk.userId, role: "cashier" });
  for (const client of [first, second]) {
    await until("it is allowed", async () => (await decide(client, clerk.userId)) === "allowed");
  }
  await asOwner().unassignRole({ userId: clerk.userId, role: "cashier" });
  for (const client of [first, second]) {
    await until("it is denied", async () => (await decide(client, clerk.userId)) === "denied");
  }
  // S-SDK-09
  assert.ok(!inspect([first, second], { depth: 10, showHidden: true }).includes("sixteen-bytes-or-more"));
});

/** Puts something in the place of whatever is there. */
async function poison({ client }: RedisServer): Promise<void> {
  for (const [index, name] of (await client.keys("*")).entries()) {
    const text = await client.get(name);
    await client.del(name);
    if (index % 2 === 0) await client.lpush(name, "a", "list");
    else await client.set(name, `${text!.slice(0, -8)}AAAAAAAA`);
  }
}

const FAULTS: Record<string, (server: RedisServer) => Promise<unknown>> = {
  silent: async (server) => process.kill(server.pid()!, "SIGSTOP"),
  gone: (server) => server.kill(),
  emptied: (server) => server.client.flushall(),
  poisoned: poison,
};
for (const [state, bring] of Object.entries(FAULTS)) {
  test(`R-SDK-05 with Redis ${state}, the client's answers are right, and nobody waits for it`, async () => {
    await using server = await startRedis();
    await using first = await startClient({ url: server.url });
    await using second = await startClient({ url: server.url });
    await untilShared([first, second]);
    await asOwner().assignRole({ userId: clerk.userId, role: "cashier" });
    await until("it is allowed", async () => (await decide(first, clerk.userId)) === "allowed");
    const strangers = people(20);
    for (const person of strangers) await decide(first, person);
    await bring(server);
    const asked = await questions();
    for (const person of strangers) {
      const startedAt = performance.now();
      assert.equal(await decide(second, person), "denied");
      const tookMs = performance.now() - startedAt;
      assert.ok(tookMs < LONGEST_MS, `one waited for ${tookMs} ms`);
    }
    assert.equal(await questions(), asked + strangers.length);
    await until("it is allowed", async () => (await decide(second, clerk.userId)) === "allowed");
    await asOwner().unassignRole({ userId: clerk.userId, role: "cashier" });
    for (const client of [first, second]) {
      await until("it is denied", async () => (await decide(client, clerk.userId)) === "denied");
    }
    if (state === "silent") process.kill(server.pid()!, "SIGCONT");
    if (state === "gone") await server.start();
    await untilShared([first, second]);
  });
}

test("an address that is none of Redis is refused at once, and not quoted", () => {
  for (const url of ["", "secret@host", "http://:secret@host", "redis://:secret@[host"]) {
    assert.throws(
      () => createTestClient(system, owner, { redis: { url } }),
      (error: TypeError) => /^redis\.url must be/.test(error.message) && !inspect(error).includes("secret"),
    );
  }
});
