/**
 * Random changes of an organization, made to the running services and to an oracle, which must agree after each of them: on every
 * permission of everybody, on the reason, and on who holds it. All calls carry the token of the changes before, and go to any
 * replica.
 */
import assert from "node:assert/strict";
import { type Client, ConnectError } from "@connectrpc/connect";
import type { AccessInternalService, AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import type {
  OrganizationInternalService,
  OrganizationService,
} from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { reasonOf } from "../errors.ts";
import { fromConsistencyToken, mergeRevisions, NO_REVISIONS, toConsistencyToken } from "../rights/revisions.ts";
import { AccessOracle, type OracleGift, type Sort } from "./access-oracle.ts";
import type { Random } from "./seeded.ts";
import type { TestUser } from "./system.ts";
import { until } from "./until.ts";

/** The services under test, and the people; the first one owns the organization and stays. */
export interface ModelSetting {
  people: TestUser[];
  organizationId: string;
  access: Client<typeof AccessService>;
  organization: Client<typeof OrganizationService>;
  organizations: Client<typeof OrganizationInternalService>;
  /** One client for each replica. */
  replicas: Client<typeof AccessInternalService>[];
  /** Makes somebody a member; resolves to the token of that. */
  join(user: TestUser): Promise<string>;
}

/** One that comes with a membership, one of owners, one of admins, one of the product. */
const PERMISSIONS = ["branches:read", "organization:delete", "roles:read", "things:do"];
const ROLES = ["alpha", "beta", "gamma"];
const SORTS = { owner: MemberRole.OWNER, admin: MemberRole.ADMIN, member: MemberRole.MEMBER };
const MAX_OPEN_BRANCHES = 3;
const BRANCHES_ASKED = 4;

/** What was done, and the consistency token that came back. */
type Done = [what: string, consistencyToken: string];

type Call<Request> = (request: Request, options: object) => Promise<{ consistencyToken: string }>;

export class AccessModel {
  readonly #setting: ModelSetting;
  readonly #random: Random;
  readonly #oracle = new AccessOracle();
  #known = NO_REVISIONS;

  constructor(setting: ModelSetting, random: Random) {
    this.#setting = setting;
    this.#random = random;
    this.#oracle.members.set(setting.people[0]!.userId, "owner");
  }

  /** Makes one change; resolves to what it was. */
  async change(): Promise<string> {
    const changes = [this.#changeMember, this.#changeRole, this.#changeGift, this.#changeGift, this.#changeBranch];
    const makeChange = this.#random.oneIn(20) ? this.#changeStatus : this.#random.pick(changes);
    const [what, token] = await makeChange.call(this);
    this.#known = mergeRevisions(this.#known, fromConsistencyToken(token));
    return what;
  }

  /** Asks about everybody, and throws where the services and the oracle differ. */
  async compare(): Promise<void> {
    const { people, organizationId } = this.#setting;
    const branches = ["", ...[...this.#oracle.branches.keys()].slice(-BRANCHES_ASKED)];
    const checks = people.flatMap(({ userId }) =>
      PERMISSIONS.flatMap((permission) =>
        branches.map((branchId) => ({ userId, organizationId, permission, branchId })),
      ),
    );
    const { results } = await answered(() => this.#replica.batchCheckPermissions({ checks }, this.#options));
    for (const [index, { allowed, notFound }] of results.entries()) {
      const { userId, permission, branchId } = checks[index]!;
      const expected = this.#oracle.allows(userId, permission, branchId);
      const about = `${permission} of ${userId} in branch "${branchId}"`;
      assert.deepEqual({ allowed, notFound }, { allowed: expected ?? false, notFound: expected === undefined }, about);
    }
  }

  /** The same by the other ways to ask, about one permission. */
  async compareOtherWays(): Promise<void> {
    const { people, organizationId } = this.#setting;
    const permission = this.#random.pick(PERMISSIONS);
    const branchId = this.#random.pick(["", ...this.#oracle.branches.keys()]);
    const allows = (userId: string) => this.#oracle.allows(userId, permission, branchId) ?? false;
    const question = { organizationId, permission, branchId };
    for (const { userId } of people) {
      const asked = { ...question, userId };
      const { allowed, sources, denial } = await answered(() => this.#replica.explainPermission(asked, this.#options));
      assert.equal(allowed, allows(userId), `${permission} of ${userId} in branch "${branchId}", explained`);
      assert.deepEqual([sources.length > 0, denial !== 0], [allowed, !allowed]);
    }
    const holders: string[] = [];
    for (let pageToken = ""; ; ) {
      const request = { ...question, pageSize: 2, pageToken };
      const page = await answered(() => this.#replica.listUsersWithPermission(request, this.#options));
      holders.push(...page.userIds);
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    const expected = people.map(({ userId }) => userId).filter(allows);
    assert.deepEqual(holders.sort(), expected.sort(), `those who hold ${permission} in branch "${branchId}"`);
  }

  get #replica(): Client<typeof AccessInternalService> {
    return this.#random.pick(this.#setting.replicas);
  }

  get #options() {
    return { headers: { "consistency-token": toConsistencyToken(this.#known) } };
  }

  async #changeMember(): Promise<Done> {
    const { people, organization, organizationId, join } = this.#setting;
    const user = this.#random.pick(people.slice(1));
    const { userId } = user;
    if (!this.#oracle.isActive) return ["nothing: suspended", ""];
    if (!this.#oracle.members.has(userId)) {
      // Who comes back starts with nothing, once access has heard of the departure.
      await until("access has heard of the departure", () => this.#hasNothing(userId));
      const token = await join(user);
      this.#oracle.members.set(userId, "member");
      return [`${userId} joins`, token];
    }
    if (this.#random.oneIn(3)) {
      const { consistencyToken } = await answered(() => organization.removeMember({ userId }, this.#options));
      this.#oracle.remove(userId);
      return [`${userId} is removed from ${organizationId}`, consistencyToken];
    }
    const sort = this.#random.pick(Object.keys(SORTS) as Sort[]);
    const request = { userId, role: SORTS[sort] };
    const { consistencyToken } = await answered(() => organization.changeMemberRole(request, this.#options));
    this.#oracle.members.set(userId, sort);
    return [`${userId} becomes ${sort}`, consistencyToken];
  }

  async #hasNothing(userId: string): Promise<boolean> {
    const { access } = this.#setting;
    const { assignments } = await answered(() => access.listAssignments({ userId }, this.#options));
    return assignments.length === 0;
  }

  async #changeRole(): Promise<Done> {
    const { access } = this.#setting;
    const name = this.#random.pick(ROLES);
    if (!this.#oracle.isActive) return ["nothing: suspended", ""];
    if (this.#oracle.roles.has(name) && this.#random.oneIn(3)) {
      const { consistencyToken } = await answered(() => access.deleteRole({ name }, this.#options));
      this.#oracle.deleteRole(name);
      return [`${name} is deleted`, consistencyToken];
    }
    const permissions = PERMISSIONS.filter(() => this.#random.oneIn(2));
    const request = { name, permissions };
    const update = { ...request, updateMask: { paths: ["permissions"] } };
    const { consistencyToken } = this.#oracle.roles.has(name)
      ? await answered(() => access.updateRole(update, this.#options))
      : await answered(() => access.createRole(request, this.#options));
    this.#oracle.roles.set(name, permissions);
    return [`${name} has ${permissions}`, consistencyToken];
  }

  async #changeGift(): Promise<Done> {
    const gift = this.#anyGift();
    const { user: userId, role, permission, branch: branchId } = gift;
    const { organizationId, access } = this.#setting;
    const isTaken = this.#random.oneIn(3);
    const what = `${role ?? permission} ${isTaken ? "from" : "to"} ${userId} in branch "${branchId}"`;
    try {
      if (role !== undefined) {
        const request = { userId, role, branchId, organizationId };
        const call: Call<typeof request> = isTaken ? this.#replica.unassignRole : this.#replica.assignRole;
        const { consistencyToken } = await answered(() => call(request, this.#options));
        this.#note(gift, isTaken);
        return [what, consistencyToken];
      }
      const request = { userId, permission, branchId };
      const call: Call<typeof request> = isTaken ? access.revokePermission : access.grantPermission;
      const { consistencyToken } = await answered(() => call(request, this.#options));
      this.#note(gift, isTaken);
      return [what, consistencyToken];
    } catch (error) {
      assert.ok(!this.#isPossible(gift, isTaken), `${what}: ${ConnectError.from(error).message}`);
      return [`refused: ${what}`, ""];
    }
  }

  #anyGift(): OracleGift {
    const user = this.#random.pick(this.#setting.people).userId;
    const branch = this.#random.pick(["", ...this.#oracle.branches.keys()]);
    if (this.#random.oneIn(2)) return { user, role: this.#random.pick(ROLES), branch };
    return { user, permission: this.#random.pick(PERMISSIONS), branch };
  }

  /** Whether the services may not refuse it. */
  #isPossible({ user, role, branch }: OracleGift, isTaken: boolean): boolean {
    if (role === undefined && !this.#oracle.isActive) return false;
    if (isTaken) return true;
    const isThere = branch === "" || this.#oracle.branches.get(branch) === true;
    return this.#oracle.members.has(user) && isThere && (role === undefined || this.#oracle.roles.has(role));
  }

  #note(gift: OracleGift, isTaken: boolean): void {
    assert.ok(this.#isPossible(gift, isTaken), "something was given that cannot be had");
    if (isTaken) this.#oracle.take(gift);
    else this.#oracle.give(gift);
  }

  async #changeBranch(): Promise<Done> {
    const { organization } = this.#setting;
    if (!this.#oracle.isActive) return ["nothing: suspended", ""];
    const open = [...this.#oracle.branches].flatMap(([id, isOpen]) => (isOpen ? [id] : []));
    if (open.length === MAX_OPEN_BRANCHES || (open.length > 0 && this.#random.oneIn(3))) {
      const branchId = this.#random.pick(open);
      const { consistencyToken } = await answered(() => organization.closeBranch({ branchId }, this.#options));
      this.#oracle.branches.set(branchId, false);
      return [`branch ${branchId} is closed`, consistencyToken];
    }
    const name = `b${this.#oracle.branches.size}`;
    const { branch, consistencyToken } = await answered(() => organization.createBranch({ name }, this.#options));
    this.#oracle.branches.set(branch!.branchId, true);
    return [`branch ${branch!.branchId} is opened`, consistencyToken];
  }

  async #changeStatus(): Promise<Done> {
    const { organizations, organizationId } = this.#setting;
    this.#oracle.isActive = !this.#oracle.isActive;
    const { consistencyToken } = this.#oracle.isActive
      ? await organizations.resumeOrganization({ organizationId })
      : await organizations.suspendOrganization({ organizationId });
    return [this.#oracle.isActive ? "resumed" : "suspended", consistencyToken];
  }
}

/** Calls until somebody can tell: a busy machine may take longer than a question waits, and then nothing was decided or done. */
export function answered<Answer>(ask: () => Promise<Answer>) {
  return until("an answer", () =>
    ask().catch((error: unknown) => {
      if (reasonOf(error) === "AUTH_STALE") return undefined;
      throw error;
    }),
  );
}
