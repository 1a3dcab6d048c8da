/**
 * Makes a service's database and its roles: an owner that only `migrate` uses, a run-time role that owns nothing, and
 * for a database of many organizations a job role that owns nothing either. Everything can be repeated and run by
 * several at once. Passwords reach the server only as SCRAM verifiers.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { connect, identifier, withDatabase } from "./connection.ts";
import { sqlStateOf } from "./errors.ts";

export interface DatabasePlan {
  database: string;
  ownerRole: string;
  runtimeRole: string;
  ownerPassword: string;
  runtimePassword: string;
  /** Of a service that keeps rows of many organizations. */
  job?: { role: string; password: string } | undefined;
}

export interface DatabaseUrls {
  ownerUrl: string;
  runtimeUrl: string;
  jobUrl?: string | undefined;
}

/** The first half of a lock's key; the second is the database. */
const PROVISION_LOCK = 0x636f6e01;
const SCRAM_ITERATIONS = 4096;
const TEMPLATE_BUSY = "55006";
const TEMPLATE_TRIES = 50;

/**
 * Creates or updates the roles and the database. The admin needs CREATEROLE and CREATEDB; a superuser is not needed.
 * Nobody but these roles (and superusers) can connect afterwards. Returns the URLs of the roles.
 */
export async function provisionDatabase(adminUrl: string, plan: DatabasePlan): Promise<DatabaseUrls> {
  await asAdmin(adminUrl, (sql) => underProvisionLock(sql, plan.database, () => provision(sql, adminUrl, plan)));
  return {
    ownerUrl: withDatabase(adminUrl, plan.database, { role: plan.ownerRole, password: plan.ownerPassword }),
    runtimeUrl: withDatabase(adminUrl, plan.database, { role: plan.runtimeRole, password: plan.runtimePassword }),
    jobUrl: plan.job && withDatabase(adminUrl, plan.database, plan.job),
  };
}

async function provision(sql: Sql, adminUrl: string, plan: DatabasePlan): Promise<void> {
  const owner = identifier(plan.ownerRole);
  const serving = [plan.runtimeRole, ...(plan.job ? [plan.job.role] : [])].map(identifier).join(", ");
  await ensureRole(sql, plan.ownerRole, plan.ownerPassword);
  await ensureRole(sql, plan.runtimeRole, plan.runtimePassword);
  if (plan.job) await ensureRole(sql, plan.job.role, plan.job.password);
  const [admin] = await sql`select rolsuper from pg_roles where rolname = current_user`;
  // only a member of a role can give it a database
  if (!admin!.rolsuper) await sql.unsafe(`grant ${owner} to current_user`);
  await ensureDatabase(sql, plan.database, plan.ownerRole);
  const database = identifier(plan.database);
  await sql.unsafe(`revoke all on database ${database} from public`);
  await sql.unsafe(`grant connect on database ${database} to ${owner}, ${serving}`);
  await asAdmin(withDatabase(adminUrl, plan.database), async (inside) => {
    await inside.unsafe("revoke all on schema public from public");
    await inside.unsafe(`grant usage on schema public to ${serving}`);
  });
}

/** A login role without any power of its own; one that has gained some loses it. */
async function ensureRole(sql: Sql, role: string, password: string): Promise<void> {
  const name = identifier(role);
  const verifier = scramVerifier(password);
  const [found] = await sql`
    select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin from pg_roles
    where rolname = ${role}`;
  if (!found) {
    await sql.unsafe(`create role ${name} login password '${verifier}'`);
    return;
  }
  const changes = [`password '${verifier}'`];
  if (!found.rolcanlogin) changes.push("login");
  // named only when they must change: an admin who is no superuser may not even name some of them
  if (found.rolsuper) changes.push("nosuperuser");
  if (found.rolcreatedb) changes.push("nocreatedb");
  if (found.rolcreaterole) changes.push("nocreaterole");
  if (found.rolreplication) changes.push("noreplication");
  if (found.rolbypassrls) changes.push("nobypassrls");
  await sql.unsafe(`alter role ${name} ${changes.join(" ")}`);
}

async function ensureDatabase(sql: Sql, database: string, owner: string): Promise<void> {
  const [found] = await sql`
    select pg_get_userbyid(datdba) as owner from pg_database where datname = ${database}`;
  if (!found)
    await sql.unsafe(`create database ${identifier(database)} owner ${identifier(owner)} encoding 'UTF8'
    template template0 strategy file_copy`);
  else if (found.owner !== owner) {
    await sql.unsafe(`alter database ${identifier(database)} owner to ${identifier(owner)}`);
  }
}

/**
 * Copies a database nobody is connected to, with its owner. CREATE DATABASE does not copy who may connect, so those
 * grants are repeated. Waits up to 5 s for the last connection to the template to go.
 */
export async function cloneDatabase(adminUrl: string, template: string, name: string): Promise<void> {
  await asAdmin(adminUrl, async (sql) => {
    const grants = await sql<{ privilege: string; grantee: string | null; owner: string }[]>`
      select a.privilege_type as privilege, case when a.grantee <> 0 then pg_get_userbyid(a.grantee) end as grantee,
             pg_get_userbyid(d.datdba) as owner
      from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a where d.datname = ${template}`;
    if (grants.length === 0) throw new Error(`there is no database ${template} to copy`);
    const owner = identifier(grants[0]!.owner);
    await copyDatabase(
      sql,
      `create database ${identifier(name)} template ${identifier(template)} owner ${owner}
      strategy file_copy`,
    );
    const repeated = grants.map(({ privilege, grantee }) => {
      const role = grantee === null ? "public" : identifier(grantee);
      return `grant ${privilege} on database ${identifier(name)} to ${role}`;
    });
    await sql.unsafe([`revoke all on database ${identifier(name)} from public`, ...repeated].join(";"));
  });
}

async function copyDatabase(sql: Sql, statement: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await sql.unsafe(statement);
      return;
    } catch (error) {
      if (sqlStateOf(error) !== TEMPLATE_BUSY || attempt === TEMPLATE_TRIES) throw error;
      await delay(100);
    }
  }
}

/** Drops a database if it exists, cutting connections to it, and then roles that own nothing any more. */
export async function dropDatabase(adminUrl: string, name: string, roles: string[] = []): Promise<void> {
  await asAdmin(adminUrl, async (sql) => {
    await sql.unsafe(`drop database if exists ${identifier(name)} with (force)`);
    for (const role of roles) await sql.unsafe(`drop role if exists ${identifier(role)}`);
  });
}

/** Runs work on one administrator's connection and closes it. */
export async function asAdmin<T>(adminUrl: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(adminUrl, { applicationName: "concierge-provision" });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** Runs work while this connection holds the provisioning lock of one database. */
async function underProvisionLock<T>(sql: Sql, database: string, work: () => Promise<T>): Promise<T> {
  await sql`select pg_advisory_lock(${PROVISION_LOCK}, hashtext(${database}))`;
  try {
    return await work();
  } finally {
    await sql`select pg_advisory_unlock(${PROVISION_LOCK}, hashtext(${database}))`;
  }
}

/** What the server stores of a password (RFC 5803), made here so that no statement or log ever carries the password. */
function scramVerifier(password: string): string {
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password, salt, SCRAM_ITERATIONS, 32, "sha256");
  const mac = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest();
  const storedKey = createHash("sha256").update(mac(salted, "Client Key")).digest("base64");
  const serverKey = mac(salted, "Server Key").toString("base64");
  return `SCRAM-SHA-256$${SCRAM_ITERATIONS}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
