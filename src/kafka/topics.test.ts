/** Which events leave by Kafka. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventReaders } from "../feed/readers.ts";
import { services } from "../services.ts";
import { routesOf, topicsOf } from "./topics.ts";

test("what backends may not read goes to no topic, everything else to that of its service", () => {
  for (const definition of services.filter(({ events }) => events)) {
    const routes = routesOf(definition, "");
    for (const [type, { backends }] of eventReaders(definition.events!)) {
      assert.equal(routes?.get(type)?.includes(`${definition.name}.events`) ?? false, backends, type);
      if (!backends) assert.deepEqual(routes?.get(type) ?? [], [], type);
    }
  }
});

test("new profiles have topics of their own, and names begin with the prefix", () => {
  assert.deepEqual(topicsOf(services, "acme."), [
    "acme.access.events",
    "acme.artist.created",
    "acme.auth.events",
    "acme.notification.events",
    "acme.organization.events",
    "acme.user.created",
    "acme.user.events",
  ]);
  const user = services.find(({ name }) => name === "user")!;
  assert.deepEqual(routesOf(user, "")?.get("concierge.user.v1.ArtistCreated"), ["user.events", "artist.created"]);
});
