/** A whole system with two replicas, one organization and some people, for what goes on for long: the model of access, its proofs. */
import { AccessInternalService, AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { connect } from "../db/connection.ts";
import type { ModelSetting } from "./access-model.ts";
import { startTestSystem, type TestSystem, type TestUser } from "./system.ts";

export interface AccessSetting extends ModelSetting, AsyncDisposable {
  system: TestSystem;
}

const PEOPLE = 4;

export async function openAccessSetting(): Promise<AccessSetting> {
  await using opened = new AsyncDisposableStack();
  const system = opened.use(await startTestSystem());
  const replica = opened.use(await system.startReplica());
  await replica.ready;
  const key = system.keyOf("backend", "access");
  const connection = opened.use(connectService({ baseUrl: replica.internalUrl, key, clock: system.clock }));
  const people = await Promise.all(Array.from({ length: PEOPLE }, () => system.newUser()));
  const owner = people[0]!;
  const founding = { name: "Model", slug: `model-${owner.userId}` };
  const { organization } = await system.asUser(OrganizationService, owner.accessToken).createOrganization(founding);
  const { organizationId } = organization!;
  const access = system.asService(AccessInternalService, "backend", "access");
  await access.createPermission({ name: "things:do" });
  const resources = opened.move();
  return {
    ...{ system, people, organizationId },
    access: system.asMember(AccessService, owner, organizationId),
    organization: system.asMember(OrganizationService, owner, organizationId),
    organizations: system.asService(OrganizationInternalService, "operator", "organization"),
    replicas: [access, connection.client(AccessInternalService)],
    join: (user) => join(system, user, { organizationId, invitedBy: owner.userId }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
/** Accepts an invitation that nobody had to mail. */
async function join(
  system: TestSystem,
  { userId, email, accessToken }: TestUser,
  { organizationId, invitedBy }: { organizationId: string; invitedBy: string },
): Promise<string> {
  const invitationId = crypto.randomUUID();
  await inDatabase(system, "auth", (sql) => sql`update accounts set email_verified_at = now() where id = ${userId}`);
  await inDatabase(
    system,
    "organization",
    (sql) => sql`
    insert into invitations (id, organization_id, email, email_key, role, invited_by, expires_at)
    values (${invitationId}, ${organizationId}, ${email}, ${email}, 'member', ${invitedBy}, 'infinity')`,
  );
  const { consistencyToken } = await system.asUser(OrganizationService, accessToken).acceptInvitation({ invitationId });
  return consistencyToken;
}

async function inDatabase(
  { database }: TestSystem,
  service: string,
  work: (sql: ReturnType<typeof connect>) => PromiseLike<unknown>,
): Promise<void> {
  const sql = connect(database(service).ownerUrl, { applicationName: "test" });
  try {
    await work(sql);
  } finally {
    await sql.end();
  }
}
