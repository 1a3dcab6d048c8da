/**
 * What organization's tests stand on: a database alone, for its domain functions, or people and members of a whole
 * system.
 */
import type { Client } from "@connectrpc/connect";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { openDatabase } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { verifyAddress } from "../../testing/organizations.ts";
import type { TestSystem, TestUser } from "../../testing/system.ts";
import { createOrganization } from "./organizations.ts";

/** A call that nobody cancels. */
export const scope = { signal: new AbortController().signal };

export async function openTestDatabase() {
  await using opened = new AsyncDisposableStack();
  const { ownerUrl, runtimeUrl, jobUrl } = opened.use(await testDatabase(["platform", "organization"]));
  const open = (url: string) => opened.use(openDatabase({ url, poolSize: 8, applicationName: "test" })).db;
  const [db, jobDb] = [open(runtimeUrl), open(jobUrl)];
  const sql = connect(ownerUrl, { applicationName: "test" });
  opened.defer(() => sql.end());
  const resources = opened.move();
  return {
    db,
    jobDb,
    /** The owner's, who sees everything. */
    sql,
    /** Makes an organization; its id. */
    async found(userId: string): Promise<string> {
      return (await createOrganization(db, scope, { userId }, { name: "Bakery", slug: newSlug() })).result.id;
    },
    /** Makes somebody a member, or another sort of member, without a word. */
    async put(organizationId: string, userId: string, role: string): Promise<void> {
      await sql`
        insert into memberships (organization_id, user_id, role) values (${organizationId}, ${userId}, ${role})
        on conflict (organization_id, user_id) do update set role = excluded.role`;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

export function newSlug(): string {
  return `s-${crypto.randomUUID()}`;
}

/** Somebody in an organization. */
export interface TestMember extends TestUser {
  organizationId: string;
  /** As a member of the organization. */
  client: Client<typeof OrganizationService>;
}

/** Somebody new who owns a new organization. */
export async function newOwner(system: TestSystem, name = "Bakery"): Promise<TestMember> {
  const user = await system.newUser();
  const organizations = system.asUser(OrganizationService, user.accessToken);
  const { organization } = await organizations.createOrganization({ name, slug: newSlug() });
  return inOrganization(system, user, organization!.organizationId);
}

/** Somebody new, with a verified address, who has accepted an invitation of `owner`. */
export async function newMember(
  system: TestSystem,
  owner: TestMember,
  role: MemberRole = MemberRole.MEMBER,
): Promise<TestMember> {
  const user = await newVerifiedUser(system);
  const { invitation } = await owner.client.inviteMember({ email: user.email, role });
  const { invitationId } = invitation!;
  await system.asUser(OrganizationService, user.accessToken).acceptInvitation({ invitationId });
  return inOrganization(system, user, owner.organizationId);
}

export function inOrganization(system: TestSystem, user: TestUser, organizationId: string): TestMember {
  return { ...user, organizationId, client: system.asMember(OrganizationService, user, organizationId) };
}

/** Somebody whose address is proven. */
export async function newVerifiedUser(system: TestSystem, email?: string): Promise<TestUser> {
  const user = await system.newUser({ email });
  await verifyAddress(system, user.userId);
  return user;
}

/** As the owner of a service's database. */
export async function inDatabase<Result>(
  { database }: TestSystem,
  service: string,
  work: (sql: ReturnType<typeof connect>) => PromiseLike<Result>,
): Promise<Result> {
  const sql = connect(database(service).ownerUrl, { applicationName: "test" });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

/** The names of the events about an organization, oldest first. */
export async function toldOf(sql: ReturnType<typeof connect>, organizationId: string): Promise<string[]> {
  const rows = await sql`select type from feed_outbox where subject = ${`organization/${organizationId}`} order by id`;
  return rows.map(({ type }) => String(type).split(".").at(-1)!);
}

/** The reason of a call that was refused, "done" of another one. */
export function answerOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "done",
    (error: unknown) => reasonOf(error) ?? String(error),
  );
}
