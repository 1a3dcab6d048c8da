import assert from "node:assert/strict";
import { getCompileCacheDir } from "node:module";
import { test } from "node:test";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { globalSetup, globalTeardown, startConcierge } from "./consumer.ts";
import { openOwnFolder } from "./own-folder.ts";

test("a consumer's test gets people, members with permissions, and a backend that may ask", async () => {
  await using concierge = await startConcierge();
  const organization = await concierge.newOrganization();
  const member = await concierge.newMember(organization, { permissions: ["orders:read"], firstName: "Bo" });
  const { user } = await concierge.asUser(UserService, member.accessToken).getMe({});
  assert.equal(user!.firstName, "Bo");
  const ask = (permission: string) => {
    const { userId } = member;
    const { organizationId } = organization;
    return concierge.asBackend(AccessInternalService).checkPermission({ userId, organizationId, permission });
  };
  assert.equal((await ask("orders:read")).allowed, true);
  assert.equal((await ask("branches:create")).allowed, false);
  const claims = JSON.parse(Buffer.from(member.accessToken.split(".")[1]!, "base64url").toString());
  assert.deepEqual([claims.iss, claims.org], [concierge.issuer, organization.organizationId]);
  await concierge.stop();
});

test("what is compiled is kept where nobody else can put anything", async () => {
  await using _concierge = await startConcierge();
  const kept = process.env.NODE_COMPILE_CACHE ?? (await openOwnFolder("concierge-modules"));
  assert.ok(getCompileCacheDir()!.startsWith(kept!), getCompileCacheDir());
});

test("a system for the whole run serves those who start one, and outlives them", async () => {
  await globalSetup();
  try {
    const { publicUrl } = await startConcierge();
    await using again = await startConcierge();
    assert.equal(again.publicUrl, publicUrl);
    await again.stop();
    await using third = await startConcierge();
    await third.newUser();
  } finally {
    await globalTeardown();
  }
});
