/** The journey's part in an organization: made, chosen, given a branch and a role, checked, suspended. */
import { AccessInternalService, AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { reasonOf } from "../errors.ts";
import type { Journey } from "./journey.ts";
import { asOperator, expect, type PublicClients, refusalOf } from "./journey-steps.ts";

export async function foundOrganization(
  { options, step, auth, session }: Journey,
  people: PublicClients,
  random: string,
): Promise<void> {
  const { email, password, userId } = session;
  const known = await auth.login({ email, password });
  const { organization } = await step("make an organization", async () => {
    const organizations = people.client(OrganizationService, "organization", known.accessToken);
    const answer = await organizations.createOrganization({ name: "Corner Bakery", slug: `bakery-${random}` });
    return { ...answer, result: `${answer.organization?.name}, slug ${answer.organization?.slug}` };
  });
  const { organizationId } = organization!;
  const { accessToken, refreshToken } = await step("choose it", async () => {
    const answer = await auth.refreshToken({ refreshToken: known.refreshToken, organizationId });
    expect(answer.organizationId === organizationId, "the new token names another organization");
    return { ...answer, result: "the new token names it" };
  });
  const organizations = people.client(OrganizationService, "organization", accessToken);
  const access = people.client(AccessService, "access", accessToken);
  await step("open a branch", async () => {
    const { branch, consistencyToken } = await organizations.createBranch({ name: "Main street" });
    const headers = { "consistency-token": consistencyToken };
    const { rights } = await access.getMyPermissions({}, { headers });
    const mine = rights?.branches.map(({ branchId }) => branchId) ?? [];
    expect(mine.includes(branch!.branchId), "its owner may not act in it");
    return { result: `${branch?.name}, one of my ${mine.length}` };
  });
  await step("make a role", async () => {
    const { role, consistencyToken } = await access.createRole({ name: "cashier", permissions: ["branches:read"] });
    const headers = { "consistency-token": consistencyToken };
    await access.assignRole({ userId, role: "cashier" }, { headers });
    const { allowed } = await asOperator(options, AccessInternalService, "access", (operator) =>
      operator.checkPermission({ userId, organizationId, permission: "branches:read" }),
    );
    expect(allowed, "the permission is not held");
    return { result: `${role?.name} may ${role?.permissions.join(", ")}` };
  });
  await step("be suspended", async () => {
    await asOperator(options, OrganizationInternalService, "organization", async (operator) => {
      const { consistencyToken } = await operator.suspendOrganization({ organizationId });
      const headers = { "consistency-token": consistencyToken };
      const refusal = await refusalOf(organizations.listBranches({}, { headers }));
      expect(reasonOf(refusal) === "PERMISSION_MISSING", "it is refused for another reason");
      await operator.resumeOrganization({ organizationId });
    });
    await auth.logout({ refreshToken });
    return { result: "nobody may do anything there, until it is resumed" };
  });
}
