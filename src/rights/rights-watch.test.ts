/** What people may do, in a whole system: decided from memory by every service, and changed by the feeds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { RoleChangedSchema } from "../../gen/concierge/access/v1/access_events_pb.ts";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { Standing } from "../../gen/concierge/access/v1/rights_pb.ts";
import { type Event, EventSchema, ReadResponseSchema } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { systemClock } from "../clock.ts";
import type { FeedReader } from "../feed/live-follower.ts";
import { createLogger } from "../log.ts";
import { startTestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { mergeRevisions, revision } from "./revisions.ts";
import { noRights, type Subject } from "./rights.ts";
import { watchRights } from "./rights-watch.ts";

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
