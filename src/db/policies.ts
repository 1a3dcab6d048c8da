/**
 * Who sees which rows of a database of many organizations: the run-time role those that policies let it see, the job
 * role all of them, by a policy of its own. `migrate` makes that policy, and no service starts whose roles could see
 * past the policies.
 */
import type { Sql } from "postgres";
import { identifier } from "./connection.ts";

const JOB_POLICY = "jobs";

/** Gives the job role its policy on every table with policies. One that is right stays: making one locks the table. */
export async function admitJobs(sql: Sql, jobRole: string): Promise<void> {
  const tables = await sql<{ name: string }[]>`
    select relname as name from pg_class c
    where relnamespace = 'public'::regnamespace and relrowsecurity and not exists (
      select 1 from pg_policy p
      where polrelid = c.oid and polname = ${JOB_POLICY} and polpermissive and polcmd = '*'
        and polroles = array[(select oid from pg_roles where rolname = ${jobRole})]
        and pg_get_expr(polqual, polrelid) = 'true' and pg_get_expr(polwithcheck, polrelid) = 'true')`;
  for (const { name } of tables) {
    const table = identifier(name);
    await sql.unsafe(`
      drop policy if exists ${JOB_POLICY} on ${table};
      create policy ${JOB_POLICY} on ${table} to ${identifier(jobRole)} using (true) with check (true)`);
  }
}

interface TableRights {
  name: string;
  /** The role, or one that it may become, owns it. */
  isOwned: boolean;
  hasPolicies: boolean;
  /** It has an organization_id, or a policy, which counts only with row-level security. */
  isOfTenants: boolean;
  /** The role sees all rows, as a job does. */
  isForJobs: boolean;
}

/** Why this connection's role must not serve, a line each: it could see rows of every organization. */
export async function runtimeRoleProblems(sql: Sql): Promise<string[]> {
  if (await seesPastPolicies(sql)) return [tooPowerful("run-time")];
  const tables = await readTables(sql);
  return [
    ...ownershipProblems("run-time", tables),
    ...tables
      .filter(({ isOfTenants, hasPolicies }) => isOfTenants && !hasPolicies)
      .map(({ name }) => `${name}: it has an organization_id or a policy, but no row-level security`),
    ...(tables.some(({ isForJobs }) => isForJobs) ? ["the run-time role must be another than the job role"] : []),
  ];
}

/** Why this connection's role must not do jobs, a line each: it may do more than that, or would see nothing. */
export async function jobRoleProblems(sql: Sql): Promise<string[]> {
  if (await seesPastPolicies(sql)) return [tooPowerful("job")];
  const tables = await readTables(sql);
  return [
    ...ownershipProblems("job", tables),
    ...tables
      .filter(({ hasPolicies, isForJobs }) => hasPolicies && !isForJobs)
      .map(({ name }) => `${name}: it has no policy for the job role; run \`concierge migrate\``),
  ];
}

async function seesPastPolicies(sql: Sql): Promise<boolean> {
  const powers = await sql`select 1 from pg_roles where (rolsuper or rolbypassrls) and pg_has_role(oid, 'member')`;
  return powers.length > 0;
}

function tooPowerful(role: string): string {
  return `the ${role} role must not be a superuser or have BYPASSRLS, by membership neither`;
}

function ownershipProblems(role: string, tables: TableRights[]): string[] {
  return tables.filter(({ isOwned }) => isOwned).map(({ name }) => `${name}: the ${role} role must not own it`);
}

async function readTables(sql: Sql): Promise<TableRights[]> {
  return sql<TableRights[]>`
    select relname as name, pg_has_role(relowner, 'member') as "isOwned", relrowsecurity as "hasPolicies",
      exists (
        select 1 from pg_attribute
        where attrelid = c.oid and attname = 'organization_id' and not attisdropped)
        or exists (select 1 from pg_policy where polrelid = c.oid) as "isOfTenants",
      exists (
        select 1 from pg_policy, unnest(polroles) as role
        where polrelid = c.oid and polname = ${JOB_POLICY}
          and case role when 0 then true else pg_has_role(role, 'member') end) as "isForJobs"
    from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by relname`;
}
