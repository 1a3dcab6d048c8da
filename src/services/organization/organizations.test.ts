/** Organizations: made, changed, suspended and deleted. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { JsonObject } from "@bufbuild/protobuf";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { createOrganization } from "./organizations.ts";
import {
  answerOf,
  inDatabase,
  inOrganization,
  newMember,
  newOwner,
  newSlug,
  openTestDatabase,
  scope,
  toldOf,
} from "./testing.ts";

describe("organizations", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(OrganizationInternalService, "operator", "organization");
  const post = async (accessToken: string | undefined, method: string, message: object) => {
    const response = await fetch(`${system.publicUrl}/${OrganizationService.typeName}/${method}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        connection: "close",
        ...(accessToken && { authorization: `Bearer ${accessToken}` }),
      },
      body: JSON.stringify(message),
    });
    return { status: response.status, text: await response.text() };
  };

  test("whoever makes one owns it, sees it among their own, and two events tell of it", async () => {
    const owner = await system.newUser();
    const organizations = system.asUser(OrganizationService, owner.accessToken);
    const slug = newSlug();
    const { organization, consistencyToken } = await organizations.createOrganization({
      name: "Bäckerei & Söhne",
      slug,
    });
    const { organizationId, createdAt, $typeName, ...made } = organization!;
    const status = OrganizationStatus.ACTIVE;
    assert.deepEqual(made, { name: "Bäckerei & Söhne", slug, plan: "free", status, modulesEnabled: [] });
    assert.ok(createdAt && consistencyToken);

    const { organizations: own } = await organizations.listMyOrganizations({});
    assert.deepEqual(
      own.map(({ organization, role }) => [organization, role]),
      [[organization, MemberRole.OWNER]],
    );
    const { client } = inOrganization(system, owner, organizationId);
    assert.deepEqual((await client.getMyOrganization({})).organization, organization);
    assert.deepEqual((await operator().getOrganization({ organizationId })).organization, organization);
    const told = await inDatabase(system, "organization", (sql) => toldOf(sql, organizationId));
    assert.deepEqual(told, ["OrganizationCreated", "MemberChanged"]);
  });

  test("S-TEN-19 of 50 who want one slug at once one gets it; other cases and alphabets are refused", async () => {
    const { accessToken } = await system.newUser();
    const organizations = system.asUser(OrganizationService, accessToken);
    const slug = newSlug();
    const tries = Array.from({ length: 50 }, (_, number) => {
      return answerOf(
        organizations.createOrganization({ name: "Bakery", slug: number % 2 ? slug : slug.toUpperCase() }),
      );
    });
    const answers = await Promise.all(tries);
    const count = (answer: string) => answers.filter((each) => each === answer).length;
    assert.deepEqual([count("INVALID_REQUEST"), count("SLUG_TAKEN"), count("done")], [25, 24, 1]);

    for (const wrong of [
      "bаkery",
      "bakery ",
      "-bakery",
      "bakery-",
      "ba",
      "a".repeat(51),
      "bäckerei",
      "ｂakery",
      "a.b",
      "",
    ]) {
      assert.equal(
        await answerOf(organizations.createOrganization({ name: "Bakery", slug: wrong })),
        "INVALID_REQUEST",
      );
    }
  });

  test("administrators change name, slug and settings, each by its name only", async () => {
    const owner = await newOwner(system);
    const other = await newOwner(system);
    const slug = newSlug();
    const settings: JsonObject = { theme: { dark: true }, days: [1, 2.5, null], text: "ö" };
    const change = { name: "Café", slug, settings };
    const updated = await owner.client.updateOrganization({ ...change, updateMask: { paths: ["name", "settings"] } });
    assert.equal(updated.organization?.name, "Café");
    assert.notEqual(updated.organization?.slug, slug);
    assert.deepEqual(updated.settings, settings);
    const renamed = await owner.client.updateOrganization({ ...change, updateMask: { paths: ["slug"] } });
    assert.equal(renamed.organization?.slug, slug);
    const { organization, settings: stored } = await owner.client.getMyOrganization({});
    assert.deepEqual([organization, stored], [renamed.organization, settings]);

    const taken = other.client.updateOrganization({ slug, updateMask: { paths: ["slug"] } });
    assert.equal(await answerOf(taken), "SLUG_TAKEN");
    for (const paths of [["name"], ["slug"], ["name", "settings"]]) {
      assert.equal(await answerOf(owner.client.updateOrganization({ updateMask: { paths } })), "INVALID_REQUEST");
    }
    const cleared = await owner.client.updateOrganization({ updateMask: { paths: ["settings"] } });
    assert.deepEqual(cleared.settings, {});
    const told = await inDatabase(system, "organization", (sql) => toldOf(sql, owner.organizationId));
    assert.deepEqual(told.slice(2), ["OrganizationChanged", "OrganizationChanged"], "settings are nobody else's");
  });

  test("settings have a size and a depth", async () => {
    const { client, accessToken: _ } = await newOwner(system);
    const put = (settings: JsonObject) =>
      answerOf(client.updateOrganization({ settings, updateMask: { paths: ["settings"] } }));
    const ofLength = (length: number) => ({ text: "a".repeat(length - JSON.stringify({ text: "" }).length) });
    const ofDepth = (depth: number): JsonObject => (depth === 1 ? {} : { a: ofDepth(depth - 1) });
    assert.equal(await put(ofLength(16_384)), "done");
    assert.equal(await put(ofLength(16_385)), "SETTINGS_TOO_LARGE");
    assert.equal(await put(ofDepth(49)), "done");
    for (const depth of [100, 2_500]) assert.equal(await put(ofDepth(depth)), "MALFORMED_MESSAGE", `${depth}`);
    assert.equal(await put({ text: "\0" }), "INVALID_REQUEST");
  });
});
