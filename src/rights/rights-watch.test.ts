/** What people may do, in a whole system: decided from memory by every service, and changed by the feeds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { RoleChangedSchema } from "../../gen/concierge/access/v1/access_events_pb.ts";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { Standing } from "../../gen/concierge/access/v1/rights_pb.ts";
import { type Event, EventSchema, ReadResponseSchema } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { MemberRemovedSchema } from "../../gen/concierge/organization/v1/organization_events_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { systemClock } from "../clock.ts";
import type { FeedReader } from "../feed/live-follower.ts";
import { createLogger } from "../log.ts";
import { createTestClient } from "../testing/auth-clients.ts";
import { createTestClock } from "../testing/clock.ts";
import { makeOrganization } from "../testing/memberships.ts";
import { startTestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { mergeRevisions, revision } from "./revisions.ts";
import { noRights, type Subject } from "./rights.ts";
import { type RightsOptions, watchRights } from "./rights-watch.ts";

test("whoever makes an organization may do everything in it, and strangers nothing", async () => {
  await using system = await startTestSystem();
  const [owner, stranger] = [await system.newUser(), await system.newUser()];
  const request = { name: "Bakery", slug: "bakery" };
  const made = await system.asUser(OrganizationService, owner.accessToken).createOrganization(request);
  const { organizationId } = made.organization!;
  const access = system.asService(AccessInternalService, "backend", "access");
  const rightsOf = async ({ userId }: { userId: string }) =>
    (await access.getUserPermissions({ userId, organizationId })).rights!;
  const rights = await rightsOf(owner);
  assert.equal(rights.standing, Standing.ACTIVE);
  assert.ok(rights.permissions.includes("organization:delete"));
  assert.equal((await rightsOf(stranger)).standing, Standing.NONE);
});

test("R-CON-06 access says how old an answer from its memory is, and who asks counts from then", async () => {
  await using system = await startTestSystem();
  const owner = await system.newUser();
  const { userId } = owner;
  const organizationId = await makeOrganization(system, owner);
  const access = system.asService(AccessInternalService, "backend", "access");
  const ageMs = async () => durationMs((await access.getUserPermissions({ userId, organizationId })).age!);
  assert.equal(await ageMs(), 0);
  // By the feeds, or by what it was told before. On a busy machine these may be read again before it is asked.
  await until("its answer is old", async () => {
    await system.advance(3_000);
    return (await ageMs()) >= 250;
  });

  const clock = createTestClock(system.clock.now());
  await using client = createTestClient(system, owner, { clock });
  await client.ready;
  const decide = () => client.decidePermission({ userId, organizationId, permission: "members:invite" });
  const questions = () => system.logLines.filter(({ procedure }) => String(procedure).endsWith("/GetUserPermissions"));
  assert.equal(await decide(), "allowed");
  const asked = questions().length;
  clock.advance(4_400);
  assert.equal(await decide(), "allowed");
  await until("access is asked again", () => questions().length > asked);
});

test("a new role makes nobody's rights wrong; one that has changed does, in its organization or everywhere", async () => {
  const told: Event[] = [];
  const feedOf = (source: string): FeedReader => ({
    async read(_, { signal } = {}) {
      const events = source === "access" ? told.splice(0) : [];
      if (events.length === 0) await delay(5, undefined, { signal });
      return create(ReadResponseSchema, { events, next: { epoch: source, position: 1n }, complete: true });
    },
  });
  const tell = (version: bigint, fact: MessageInitShape<typeof RoleChangedSchema>) => {
    const payload = toBinary(RoleChangedSchema, create(RoleChangedSchema, fact));
    return create(EventSchema, { type: RoleChangedSchema.typeName, version, payload });
  };
  const asked: string[] = [];
  const load = async ({ organizationId }: Subject) => {
    asked.push(organizationId);
    return noRights("none", mergeRevisions(revision("access", organizationId, 9n), revision("access", "", 9n)));
  };
  const watch = watchRights({
    load,
    feedOf,
    clock: systemClock,
    log: createLogger({ level: "fatal", mode: "production" }),
    allowStale: false,
  });
  await using followers = new AsyncDisposableStack();
  const following = watch.follow().map((follower) => followers.use(follower));
  await Promise.all(following.map(({ caughtUp }) => caughtUp));
  const ask = (organizationId: string) => watch.rightsOf({ userId: "anne", organizationId });
  for (const organizationId of ["bakery", "school"]) await ask(organizationId);
  told.push(tell(1n, { name: "new", created: true }), tell(2n, { name: "old", organizationId: "school" }));
  await until("the school is asked about again", async () => {
    await ask("school");
    return asked.length === 3;
  });
  await ask("bakery");
  assert.deepEqual(asked, ["bakery", "school", "school"]);
  told.push(tell(3n, { name: "old" }));
  await until("the bakery is asked about again", async () => {
    await ask("bakery");
    return asked.length === 4;
  });
});

test("R-CON-06 who begins to follow after a change is not held to an answer of somebody who has not heard of it", async () => {
  const clock = createTestClock();
  const removals: Event[] = [];
  let isCut = false;
  const load = async ({ organizationId }: Subject) => {
    const revisions = revision("organization", organizationId, BigInt(removals.length));
    return noRights(removals.length === 0 ? "suspended" : "none", revisions);
  };
  const follow = async (name: string, options: Pick<RightsOptions, "load">) => {
    const feedOf = (source: string): FeedReader => ({
      async read({ from }, { signal } = {}) {
        await delay(5, undefined, { signal });
        if (isCut && name === "access") throw new Error("cut");
        const events = source === "organization" ? removals : [];
        const position = from?.case === "cursor" ? Number(from.value.position) : events.length;
        const next = { epoch: source, position: BigInt(events.length) };
        return create(ReadResponseSchema, { events: events.slice(position), next, complete: true });
      },
    });
    const log = createLogger({ level: "fatal", mode: "production" });
    const watch = watchRights({ ...options, feedOf, clock, log, allowStale: false });
    const followers = watch.follow().map((follower) => opened.use(follower));
    const isFresh = () => followers.every(({ freshAt }) => freshAt === clock.monotonic());
    await until("it follows", isFresh);
    return { watch, isFresh };
  };
  await using opened = new AsyncDisposableStack();
  const anne = { userId: "anne", organizationId: "bakery" };
  const access = await follow("access", { load });
  const standingBy = async ({ watch }: typeof access) => (await watch.rightsOf(anne)).rights.standing;
  assert.equal(await standingBy(access), "suspended");
  clock.advance(1_000);
  await until("access is fresh", access.isFresh);
  isCut = true;
  const payload = toBinary(MemberRemovedSchema, create(MemberRemovedSchema, anne));
  removals.push(create(EventSchema, { type: MemberRemovedSchema.typeName, version: 1n, payload }));
  clock.advance(2_000);
  const askAccess = async () => {
    const { rights, freshAt } = await access.watch.rightsOf(anne);
    return { ...rights, ageMs: clock.monotonic() - freshAt };
  };
  const user = await follow("user", { load: askAccess });
  assert.equal(await standingBy(user), "suspended");
  // Five seconds after the change everybody knows of it.
  clock.advance(3_000);
  await until("user is fresh", user.isFresh);
  assert.equal(await standingBy(user), "none");
});
