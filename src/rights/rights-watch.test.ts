/** What people may do, in a whole system: decided from memory by every service, and changed by the feeds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { Standing } from "../../gen/concierge/access/v1/rights_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem } from "../testing/system.ts";

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
