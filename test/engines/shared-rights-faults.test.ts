/**
 * Rights that processes share by a Redis that is gone, silent, emptied or tampered with, while rights change, processes come and go and
 * owners are restored: nobody is told what is wrong, and nobody waits. And in a whole system.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { v7 as uuidv7 } from "uuid";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../../src/client/service-client.ts";
import { mergeRevisions, NO_REVISIONS, type Revisions } from "../../src/rights/revisions.ts";
import type { Subject } from "../../src/rights/rights.ts";
import { SHARED_TIMEOUT_MS } from "../../src/rights/shared-rights.ts";
import type { RunningServer } from "../../src/server.ts";
import { addMember, makeOrganization, removeMember } from "../../src/testing/memberships.ts";
import { Random } from "../../src/testing/seeded.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../src/testing/system.ts";
import { until } from "../../src/testing/until.ts";
import { createServiceKey } from "../../src/token/key-making.ts";
import { startRedis } from "./redis.ts";
import { RightsOwner, type RightsProcess, startRightsProcess, untilUp } from "./rights-owner.ts";

const key = createServiceKey("auth", "access", "service");
const STEPS = 300;
const SEED = Number(process.env.SEED ?? 1);

function subjectsOf(organizations: string[], people: number): Subject[] {
  return organizations.flatMap((organizationId) =>
    Array.from({ length: people }, () => ({ userId: uuidv7(), organizationId })),
  );
}

/** Throws where the answer is not what the owner holds. */
async function ask(owner: RightsOwner, { watch }: RightsProcess, subject: Subject, wanted?: Revisions): Promise<void> {
  const { rights } = await watch.rightsOf(subject, { wanted });
  const { standing, permissions } = owner.rightsOf(subject);
  assert.deepEqual([rights.standing, rights.permissions], [standing, permissions]);
}

test("S-INJ-09 R-SDK-05 two processes, an attacker at Redis, and random changes: every answer is the owner's", async () => {
  await using server = await startRedis();
  const owner = new RightsOwner();
  const random = new Random(SEED);
  const organizations = [uuidv7(), uuidv7(), ""];
  const subjects = subjectsOf(organizations, 3);
  const start = async () => {
    const started = await startRightsProcess(owner, { url: server.url, keys: [key] });
    await untilUp(started);
    return started;
  };
  const processes = [await start(), await start()];
  let wanted = NO_REVISIONS;
  let found = 0;
  let earlier = owner.state;
  const seen = new Map<string, string>();
  const steps: Record<string, () => Promise<void> | Revisions> = {
    grant: () => owner.grant(random.pick(subjects)),
    "grant to another": () => owner.grant(random.pick(subjects)),
    "grant to one more": () => owner.grant(random.pick(subjects)),
    remove: () => owner.remove(random.pick(subjects)),
    open: () => owner.open(random.pick(organizations)),
    async flush() {
      if (random.oneIn(4)) await server.client.flushall();
    },
    async "look at Redis"() {
      for (const name of await server.client.keys("*"))
        seen.set(`${name} ${seen.size}`, (await server.client.get(name))!);
    },
    async "bring back"() {
      for (const [place, text] of seen) if (random.oneIn(2)) await server.client.set(place.split(" ")[0]!, text);
    },
    async restart() {
      const index = random.below(processes.length);
      found += processes[index]!.shared.counts.found;
      await processes[index]![Symbol.asyncDispose]();
      processes[index] = await start();
    },
    async restore() {
      owner.restore(earlier);
      wanted = NO_REVISIONS;
      await owner.untilHeard();
      if (random.oneIn(2)) earlier = owner.state;
    },
  };
  try {
    for (let step = 0; step < STEPS; step++) {
      const made = await steps[random.pick(Object.keys(steps))]!();
      if (made) wanted = mergeRevisions(wanted, made);
      const isHeard = random.oneIn(3);
      if (isHeard) await owner.untilHeard();
      const asked = random.pick(processes);
      const some = isHeard ? subjects : [random.pick(subjects), random.pick(subjects)];
      await Promise.all(some.map((subject) => ask(owner, asked, subject, isHeard ? undefined : wanted)));
    }
    for (const { shared } of processes) found += shared.counts.found;
    assert.ok(found > 50, `only ${found} were found: this has proved little`);
  } finally {
    await Promise.all(processes.map((each) => each[Symbol.asyncDispose]()));
  }
});

/** Milliseconds that each of these took, in order. */
async function times(works: (() => Promise<unknown>)[]): Promise<number[]> {
  const taken: number[] = [];
  for (const work of works) {
    const start = performance.now();
    await work();
    taken.push(performance.now() - start);
  }
  return taken.sort((a, b) => a - b);
}

test("R-SDK-05 Redis that is silent for 2 s keeps one question waiting for 50 ms, gone none; then it is used again", async () => {
  await using server = await startRedis();
  const owner = new RightsOwner();
  await using reader = await startRightsProcess(owner, { url: server.url, keys: [key], timeoutMs: SHARED_TIMEOUT_MS });
  await untilUp(reader);
  const bakery = uuidv7();
  const strangers = (count: number) => subjectsOf([bakery], count).map((subject) => () => ask(owner, reader, subject));
  await times(strangers(50));
  const p90 = (taken: number[]) => taken[Math.trunc(taken.length * 0.9)]!;
  const usual = p90(await times(strangers(200)));
  const failuresBefore = reader.redis.failures;
  const pid = server.pid()!;
  process.kill(pid, "SIGSTOP");
  const silentUntil = performance.now() + 2_000;
  const whileSilent: number[] = [];
  while (performance.now() < silentUntil) whileSilent.push(...(await times(strangers(20))));
  const waited = reader.redis.failures - failuresBefore;
  process.kill(pid, "SIGCONT");
  // Not the two seconds, whatever else this machine does.
  const longest = Math.max(...whileSilent);
  assert.ok(longest < 1_500, `one waited for ${longest} ms`);
  assert.ok(waited <= 6, `${waited} of ${whileSilent.length} waited for Redis`);
  await until("Redis answers again", async () => (await reader.redis.run("return 1", [], [])) === 1);
  await server.kill();
  const gone = p90(await times(strangers(200)));
  assert.ok(gone < usual + 20, `p90 ${gone} ms, ${usual} ms with Redis`);
  await server.start();
  await untilUp(reader);
  await times(strangers(1));
  await until("something is stored again", () => server.client.dbsize());
});

/** What /metrics shows of this about auth, by the value of another label. */
async function metric(server: RunningServer, name: string, label: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${server.internalUrl}/metrics`)).text();
  const lines = text.matchAll(new RegExp(`^${name}\\{service="auth",${label}="(\\w+)"\\} (\\S+)$`, "gm"));
  return Object.fromEntries([...lines].map(([, value, number]) => [value, Number(number)]));
}

/** What a process answers about somebody's token. */
async function verify(system: TestSystem, server: RunningServer, user: TestUser, organizationId: string) {
  const { clock } = system;
  using auth = connectService({ baseUrl: server.internalUrl, key: system.keyOf("backend", "auth"), clock });
  const accessToken = system.memberToken(user, organizationId);
  return await auth.client(AuthInternalService).verifyToken({ accessToken });
}

test("R-SDK-05 replicas of auth share what VerifyToken tells; a removed member is removed at once in both", async () => {
  await using redis = await startRedis();
  await using system = await startTestSystem({ variables: { CONCIERGE_REDIS_URL: redis.url } });
  await using replica = await system.startReplica();
  await replica.ready;
  const [owner, member] = [await system.newUser(), await system.newUser()];
  const owned = { system, owner, organizationId: await makeOrganization(system, owner) };
  await addMember(owned, member);
  for (const server of [system.server, replica]) {
    await until("it follows", async () => {
      const { access, organization } = await metric(server, "feed_age_seconds", "source");
      return access! >= 0 && organization! >= 0;
    });
  }
  const told = async (which: RunningServer, user: TestUser) =>
    (await verify(system, which, user, owned.organizationId)).rights?.permissions ?? [];
  const permissions = await told(system.server, member);
  assert.ok(permissions.length > 0);
  await told(replica, owner);
  // One that Redis has not heard of within 50 ms asks access, and proves nothing.
  await until("the replica finds what the other one has stored", async () => {
    const next = await system.newUser();
    await addMember(owned, next);
    const stored = await told(system.server, next);
    assert.deepEqual(await told(replica, next), stored);
    return (await metric(replica, "shared_rights_total", "outcome")).found! >= 1;
  });
  assert.deepEqual(await told(replica, member), permissions);
  await removeMember(owned, member);
  for (const which of [system.server, replica]) {
    await until("the member is gone", async () => (await told(which, member)).length === 0);
  }
});
