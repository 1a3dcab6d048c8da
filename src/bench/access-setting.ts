/**
 * What `make bench/access`, `bench/sdk` and `prove/outage` run on: services that decide what people may do, together in one process or
 * some of them in each, over a PostgreSQL of its own.
 */
import type { Sql } from "postgres";
import { v7 as uuidv7 } from "uuid";
import type { ServiceKey } from "../config.ts";
import { connect } from "../db/connection.ts";
import { systemVariables } from "../dev/variables.ts";
import { ISSUER } from "../prove/auth-sessions.ts";
import type { Replica } from "../prove/replica.ts";
import { startWorker } from "../prove/workers.ts";
import { services } from "../services.ts";
import { CLUSTER_VARIABLE, startTestCluster, testDatabase } from "../testing/cluster.ts";
import { calleesOf, createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "../token/key-making.ts";
import type { KeySet } from "../token/signing-keys.ts";

const SERVICES = ["auth", "access", "organization", "user", "greeter"];
const MEMBERS_EACH = 100;
const BRANCHES_EACH = 5;

export interface AccessSetting {
  /** Owner's connections, by service. */
  sql: Record<string, Sql>;
  signingKeys: KeySet;
  /** Of the role that a service runs as. */
  runtimeUrl(service: string): string;
  /** The key of a backend. */
  keyOf(callee: string): ServiceKey;
  /** A process that remembers nothing yet: of all services, or of some, with variables beside or instead of the usual ones. */
  start(services?: string[], changes?: Record<string, string>): Promise<Replica & AsyncDisposable>;
}

export async function openAccessSetting(opened: AsyncDisposableStack): Promise<AccessSetting> {
  const { adminUrl } = opened.use(await startTestCluster());
  process.env[CLUSTER_VARIABLE] = adminUrl;
  const definitions = services.filter(({ name }) => SERVICES.includes(name));
  const stored = definitions.filter(({ hasDatabase }) => hasDatabase).map(({ name }) => name);
  const databases = Object.fromEntries(
    await Promise.all(stored.map(async (name) => [name, opened.use(await testDatabase(["platform", name]))] as const)),
  );
  const signingKeys = await createSigningKeys("ES256");
  const serviceKeys = [
    ...pairsOf(definitions).map(({ caller, callee }) => createServiceKey(caller, callee, "service")),
    ...calleesOf(definitions).map(({ name }) => createServiceKey("backend", name, "backend")),
  ];
  const push = { credentials: "", endpoint: "" };
  const parts = { definitions, databases, serviceKeys, signingKeys, tokenKeys: createTokenKeys(), push };
  const variables = {
    ...systemVariables(parts),
    CONCIERGE_ISSUER: ISSUER,
    CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false",
  };
  const sql = Object.fromEntries(
    stored.map((name) => {
      const owner = connect(databases[name]!.ownerUrl, { applicationName: "concierge-bench" });
      opened.defer(() => owner.end({ timeout: 1 }));
      return [name, owner] as const;
    }),
  );
  return {
    ...{ sql, signingKeys },
    runtimeUrl: (service) => databases[service]!.runtimeUrl,
    keyOf: (callee) => serviceKeys.find((key) => key.callee === callee && key.kind === "backend")!,
    async start(services = SERVICES, changes = {}) {
      const worker = startWorker("replica");
      const replica = await worker.call<Replica>("start", { services, variables: { ...variables, ...changes } });
      return { ...replica, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
    },
  };
}

/** A member of an organization. */
export interface Person {
  userId: string;
  organizationId: string;
}

/**
 * Adds organizations of a hundred members each: an owner, four admins, and others of whom each has one of five roles of ten permissions,
 * half of them in one of five branches only. Returns the members of some of them.
 */
export async function grow({ sql }: AccessSetting, organizations: number): Promise<Person[]> {
  const ids = Array.from({ length: organizations }, () => uuidv7());
  const { organization, access, auth } = sql as Record<"organization" | "access" | "auth", Sql>;
  await organization`
    insert into organizations (id, name, slug) select id, 'Bakery', id::text from unnest(${ids}::uuid[]) id`;
  await organization`
    insert into branches (id, organization_id, name)
    select gen_random_uuid(), id, 'Branch ' || branch from unnest(${ids}::uuid[]) id, generate_series(1, ${BRANCHES_EACH}) branch`;
  await organization`
    insert into memberships (organization_id, user_id, role)
    select id, gen_random_uuid(), case when member = 1 then 'owner' when member <= 5 then 'admin' else 'member' end
    from unnest(${ids}::uuid[]) id, generate_series(1, ${MEMBERS_EACH}) member`;
  await access`
    insert into permissions (name, description) select 'product' || number || ':read', '' from generate_series(1, 50) number
    on conflict do nothing`;
  await access`
    insert into roles (id, organization_id, name, description, permissions)
    select gen_random_uuid(), id, 'role-' || role, '',
      (select array_agg('product' || number || ':read' order by 1) from generate_series(role * 10 - 9, role * 10) number)
    from unnest(${ids}::uuid[]) id, generate_series(1, 5) role`;
  await assignRoles(organization, access, ids);
  await auth`
    insert into accounts (id, email, email_key, first_name, last_name, locale)
    select id, id || '@example.com', id || '@example.com', 'Ann', 'Lee', 'en'
    from unnest(${await userIds(organization, ids)}::uuid[]) as id`;
  for (const one of [organization, access, auth]) await one`analyze`;
  const sample = ids.slice(0, 100);
  return organization<Person[]>`
    select user_id as "userId", organization_id as "organizationId" from memberships
    where organization_id = any(${sample}::uuid[]) order by md5(user_id::text)`;
}

/** Members are in one database and roles in the other: they go over in batches. */
async function assignRoles(organization: Sql, access: Sql, organizationIds: string[]): Promise<void> {
  for (let at = 0; at < organizationIds.length; at += 500) {
    const batch = organizationIds.slice(at, at + 500);
    const people = await organization<{ user: string; organization: string; membership: string; branch: string }[]>`
      select user_id as "user", m.organization_id as "organization", m.id as membership,
        (select b.id from branches b where b.organization_id = m.organization_id limit 1) as branch
      from memberships m where role = 'member' and organization_id = any(${batch}::uuid[])`;
    const columns = {
      users: people.map(({ user }) => user),
      organizations: people.map((person) => person.organization),
      memberships: people.map((person) => person.membership),
      branches: people.map(({ branch }, index) => (index % 2 === 0 ? branch : null)),
      roles: people.map((_, index) => `role-${(index % 5) + 1}`),
    };
    await access`
      insert into assignments (id, user_id, organization_id, membership_id, branch_id, role_id, assigned_by)
      select gen_random_uuid(), person, given.organization, given.membership, given.branch, roles.id, 'bench'
      from unnest(${columns.users}::uuid[], ${columns.organizations}::uuid[], ${columns.memberships}::uuid[],
          ${columns.branches}::uuid[], ${columns.roles}::text[])
        given (person, organization, membership, branch, role)
      join roles on roles.organization_id = given.organization and roles.name = given.role`;
  }
}

async function userIds(organization: Sql, organizationIds: string[]): Promise<string[]> {
  const found = await organization<{ id: string }[]>`
    select user_id as id from memberships where organization_id = any(${organizationIds}::uuid[])`;
  return found.map(({ id }) => id);
}
