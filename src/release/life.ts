/**
 * A life for a system, so that no table of its databases is empty: people of every state, organizations, roles, notifications
 * of every fate. All of it by the services' own methods, as clients call them.
 */
import { randomBytes } from "node:crypto";
import bcrypt from "bcrypt";
import { AccessInternalService, AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { runJourney } from "../dev/journey.ts";
import { mailTo, tokenIn } from "../testing/mails.ts";
import { logIn, type TestUser } from "../testing/people.ts";
import type { TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";

const BCRYPT_COST = 10;

/** Ann owns an organization, in which Ben is a member; their accounts are as healthy as can be. */
export interface Life {
  ann: TestUser;
  ben: TestUser;
  organizationId: string;
}

/** Lives it. The system has every service, a clock that runs, and two signing keys. */
export async function live(system: TestSystem, print: (line: string) => void): Promise<Life> {
  await runJourney({
    publicUrl: () => system.publicUrl,
    internalUrl: () => system.internalUrl,
    operatorKeys: system.serviceKeys.filter(({ kind }) => kind === "operator"),
    pushes: () => system.pushes(),
    clock: system.clock,
    print,
  });
  const [ann, ben] = [await verifiedPerson(system, "ann"), await verifiedPerson(system, "ben")];
  await changeAccounts(system, ann);
  const organizationId = await organize(system, ann, ben);
  await notify(system, ben, organizationId);
  return { ann, ben, organizationId };
}

/** One more change in each service; returns who was new. */
export async function liveOn(system: TestSystem, { ann, ben, organizationId }: Life): Promise<TestUser> {
  const newcomer = await newPerson(system, "newcomer");
  const firstName = "Benjamin";
  await system.asUser(UserService, ben.accessToken).updateUser({ firstName, updateMask: { paths: ["first_name"] } });
  await system.asMember(OrganizationService, ann, organizationId).createBranch({ name: "Station" });
  await system.asMember(AccessService, ann, organizationId).createRole({ name: "baker", permissions: [] });
  const call = { text: "Too late", userIds: [ben.userId], idempotencyKey: crypto.randomUUID() };
  await system.asService(NotificationInternalService, "operator", "notification").createNotification(call);
  return newcomer;
}

/** Somebody new, "<name>@example.com", with a password that nobody else knows. */
function newPerson(system: TestSystem, name: string): Promise<TestUser> {
  const firstName = `${name[0]!.toUpperCase()}${name.slice(1)}`;
  return system.newUser({ email: `${name}@example.com`, password: randomBytes(16).toString("hex"), firstName });
}

/** Somebody who has followed the link in the mail, with a session from after that. */
async function verifiedPerson(system: TestSystem, name: string): Promise<TestUser> {
  const person = await newPerson(system, name);
  const { text } = await mailTo(system, person.email, "Confirm your e-mail address");
  await system.asUser(AuthService).verifyEmail({ token: tokenIn(text), password: person.password });
  return logIn(system.asUser(AuthService), person);
}

/** An account that is disabled, one that is deleted, one from elsewhere, a lost password, and a removed signing key. */
async function changeAccounts(system: TestSystem, admin: TestUser): Promise<void> {
  const operator = system.asService(AuthInternalService, "operator", "auth");
  await system.asService(AccessInternalService, "operator", "access").bootstrapAdmin({ userId: admin.userId });
  const disabled = await newPerson(system, "disabled");
  await operator.disableAccount({ userId: disabled.userId });
  const deleted = await newPerson(system, "deleted");
  const itsOwner = system.asUser(AuthService, deleted.accessToken);
  await itsOwner.deleteMyAccount({ currentPassword: deleted.password });
  const passwordHash = await bcrypt.hash(randomBytes(16).toString("hex"), BCRYPT_COST);
  await operator.importUsers({ users: [{ email: "imported@example.com", passwordHash, emailVerified: true }] });
  await system.asUser(AuthService).requestPasswordReset({ email: "imported@example.com" });
  await operator.removeSigningKey({ keyId: system.signingKeys.keys.at(-1)!.kid });
}

/** An organization with a member, an open invitation, a branch, a role, and permissions of the platform and of one person. */
async function organize(system: TestSystem, owner: TestUser, member: TestUser): Promise<string> {
  const registry = system.asService(AccessInternalService, "operator", "access");
  await registry.createPermission({ name: "ledger:read", description: "See what was sold" });
  await registry.createRole({ name: "auditor", description: "Looks at everything", permissions: ["ledger:read"] });
  await registry.assignRole({ userId: member.userId, role: "auditor" });
  const { organization } = await system
    .asUser(OrganizationService, owner.accessToken)
    .createOrganization({ name: "Corner Bakery", slug: "corner-bakery" });
  const { organizationId } = organization!;
  const organizations = system.asMember(OrganizationService, owner, organizationId);
  const invite = async (email: string) => {
    return (await organizations.inviteMember({ email, role: MemberRole.MEMBER })).invitation!.invitationId;
  };
  const { consistencyToken } = await system
    .asUser(OrganizationService, member.accessToken)
    .acceptInvitation({ invitationId: await invite(member.email) });
  await invite("invited@example.com");
  const { branch } = await organizations.createBranch({ name: "Main street" });
  const headers = { "consistency-token": consistencyToken };
  const access = system.asMember(AccessService, owner, organizationId);
  await access.createRole({ name: "cashier", permissions: ["branches:read"] });
  const given = { userId: member.userId, branchId: branch!.branchId };
  await access.assignRole({ ...given, role: "cashier" }, { headers });
  await access.grantPermission({ ...given, permission: "branches:update" }, { headers });
  const suspended = await system
    .asUser(OrganizationService, owner.accessToken)
    .createOrganization({ name: "Closed Bakery", slug: "closed-bakery" });
  await system
    .asService(OrganizationInternalService, "operator", "organization")
    .suspendOrganization({ organizationId: suspended.organization!.organizationId });
  return organizationId;
}

/** One that is given up, one that waits for its next try, one that is cancelled, and one of a muted topic. */
async function notify(system: TestSystem, { userId, accessToken }: TestUser, organizationId: string): Promise<void> {
  const inbox = system.asUser(NotificationService, accessToken);
  const operator = system.asService(NotificationInternalService, "operator", "notification");
  const send = async (text: string, topic = "") => {
    const call = {
      title: "Bakery",
      text,
      topic,
      userIds: [userId],
      organizationId,
      idempotencyKey: crypto.randomUUID(),
    };
    return (await operator.createNotification(call)).notificationId;
  };
  const { deviceId } = await inbox.registerDevice({ token: "invalid-device", platform: Platform.IOS });
  const status = () => operator.getQueueStatus({});
  await send("Given up");
  await until("it is given up", async () => Object.keys((await status()).deadByCode).length > 0);
  await inbox.removeDevice({ deviceId });
  await inbox.registerDevice({ token: "unavailable-86400-device", platform: Platform.ANDROID });
  const cancelled = await send("Cancelled");
  await operator.cancelNotification({ notificationId: cancelled });
  await send("To be tried again");
  await inbox.muteTopic({ topic: "offers" });
  await send("Not pushed", "offers");
}
