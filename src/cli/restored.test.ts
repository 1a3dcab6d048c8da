/** `concierge restored` over databases of a whole system that were brought back to an earlier time by hand. */
import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { createClient } from "@connectrpc/connect";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationService, Platform } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { connect } from "../db/connection.ts";
import { asAdmin, cloneDatabase, dropDatabase } from "../db/provision.ts";
import { ExitCode } from "../errors.ts";
import type { RunningServer } from "../server.ts";
import { services } from "../services.ts";
import { testCluster } from "../testing/cluster.ts";
import { runHere } from "../testing/command.ts";
import { ServiceDatabases } from "../testing/invariants.ts";
import { logIn, newUser, type TestUser, userTransport } from "../testing/people.ts";
import { refusalOf } from "../testing/refusals.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { createSigningKeys } from "../token/key-making.ts";

const withDatabase = services.filter(({ hasDatabase }) => hasDatabase);

/** The variables of the command, with these signing keys. */
function variablesOf(system: TestSystem, signingKeys: unknown): Record<string, string> {
  const variables: Record<string, string> = { CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(signingKeys) };
  for (const { name, hasTenants } of withDatabase) {
    const { ownerUrl, runtimeUrl, jobUrl } = system.database(name);
    const prefix = `CONCIERGE_${name.toUpperCase()}_DATABASE`;
    Object.assign(variables, { [`${prefix}_URL`]: runtimeUrl, [`${prefix}_OWNER_URL`]: ownerUrl });
    if (hasTenants) variables[`${prefix}_JOB_URL`] = jobUrl;
  }
  return variables;
}

async function inDatabase<Row extends object>(system: TestSystem, service: string, query: string): Promise<Row[]> {
  const sql = connect(system.database(service).ownerUrl, { applicationName: "test" });
  try {
    return await sql.unsafe<Row[]>(query);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function restoresOf(system: TestSystem): Promise<number[]> {
  const query = "select restores from feed_state";
  const rows = await Promise.all(withDatabase.map(({ name }) => inDatabase<{ restores: number }>(system, name, query)));
  return rows.map(([row]) => row!.restores);
}

/** What becomes of somebody's tokens: the access token at another service, the refresh token at auth. */
function fateOf({ publicUrl }: Pick<RunningServer, "publicUrl">, { accessToken, refreshToken }: TestUser) {
  const said = (call: Promise<unknown>) =>
    call.then(
      () => "answered",
      (error) => refusalOf(Promise.reject(error)),
    );
  return Promise.all([
    said(createClient(UserService, userTransport(publicUrl, accessToken)).getMe({})),
    said(createClient(AuthService, userTransport(publicUrl)).refreshToken({ refreshToken })),
  ]);
}

const REFUSED = ["Unauthenticated UNAUTHENTICATED", "Unauthenticated UNAUTHENTICATED"];

/**
 * Somebody with three sessions, a device and a guest who is invited, in a system that has stopped and is as it was when one session had not ended yet,
 * and one had not begun.
 */
async function openRestored(system: TestSystem) {
  const auth = system.asUser(AuthService);
  const live = await system.newUser();
  const [ended, lost] = [await logIn(auth, live), await logIn(auth, live)];
  const notification = system.asUser(NotificationService, live.accessToken);
  await notification.registerDevice({ token: "a phone", platform: Platform.ANDROID });
  const organizations = system.asUser(OrganizationService, live.accessToken);
  const { organization } = await organizations.createOrganization({ name: "Bakery", slug: "bakery" });
  const owner = system.asMember(OrganizationService, live, organization!.organizationId);
  await owner.inviteMember({ email: "guest@example.com", role: MemberRole.MEMBER });
  await auth.logout({ refreshToken: ended.refreshToken });
  await auth.requestPasswordReset({ email: live.email });
  const links = "select id from mails where token_hash is not null and token_used_at is null";
  await until("a link was mailed", async () => (await inDatabase(system, "auth", links)).length > 0);
  await system.server[Symbol.asyncDispose]();
  // PostgreSQL ends what it had for a client a moment after the client.
  const others = `select 1 from pg_stat_activity
    where datname = current_database() and usename is not null and pid <> pg_backend_pid()`;
  for (const { name } of withDatabase) {
    await until(`nobody uses ${name}`, async () => (await inDatabase(system, name, others)).length === 0);
  }
  await inDatabase(
    system,
    "auth",
    `update sessions set ended_at = null, end_reason = null where id = '${ended.sessionId}'`,
  );
  await inDatabase(system, "auth", `delete from sessions where id = '${lost.sessionId}'`);
  return { live, ended, lost };
}

describe("after a restore", () => {
  test("R-DB-10 that lost changes, whoever may have been logged out is: sessions, tokens, links, devices and invitations", async () => {
    await using system = await startTestSystem();
    const { live, ended, lost } = await openRestored(system);
    const [{ keys: fresh }, { keys: old }] = [await createSigningKeys("ES256"), system.signingKeys];
    const keys = { keys: [...fresh, ...old] };
    const env = variablesOf(system, keys);

    const { code, stdout, stderr } = await runHere(["restored"], env);
    assert.deepEqual([code, stderr], [ExitCode.ok, ""]);
    assert.match(stdout, /^auth: 1 signing keys were removed; \S+ signs, which must have been made after the loss$/m);
    assert.match(stdout, /^auth: 2 sessions were ended, [1-9] mailed links and [1-9] known devices forgotten$/m);
    assert.match(stdout, /^organization: 1 open invitations were taken back, to be made again$/m);
    const open = await inDatabase(system, "organization", "select id from invitations where ended_at is null");
    assert.equal(open.length, 0);
    assert.match(stdout, /^notification: 1 devices were forgotten, to be registered again$/m);
    assert.ok((await restoresOf(system)).every((restores) => restores > 0));

    await using server = await system.startReplica({ CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(keys) });
    await server.ready;
    for (const session of [live, ended, lost]) assert.deepEqual(await fateOf(server, session), REFUSED);
    const again = await logIn(createClient(AuthService, userTransport(server.publicUrl)), live);
    const devices = createClient(NotificationService, userTransport(server.publicUrl, again.accessToken));
    assert.deepEqual((await devices.listMyDevices({})).devices, []);
    assert.deepEqual(await fateOf(server, again), ["answered", "answered"]);
  });

  test("R-DB-10 the command can be run twice, and refuses while the service runs or before there is a new key", async () => {
    await using system = await startTestSystem();
    const { keys: old } = system.signingKeys;
    const keys = { keys: [...(await createSigningKeys("ES256")).keys, ...old] };
    const running = await runHere(["restored", "auth"], variablesOf(system, keys));
    assert.equal(running.code, ExitCode.unavailable);
    assert.match(running.stderr, /^concierge: auth: \d+ connections of \S+ are open: stop the service/);
    await openRestored(system);

    const isOnlyPublished = { keys: [...keys.keys].reverse() };
    for (const unfit of [{ keys: old }, isOnlyPublished]) {
      const { code, stderr } = await runHere(["restored", "auth"], variablesOf(system, unfit));
      assert.equal(code, ExitCode.config);
      assert.match(stderr, /^concierge: auth: CONCIERGE_AUTH_SIGNING_KEYS must begin with a new key/);
    }
    assert.deepEqual(
      await restoresOf(system),
      withDatabase.map(() => 0),
    );
    for (const number of [1, 2]) {
      const { code, stdout } = await runHere(["restored", "auth"], variablesOf(system, keys));
      assert.equal(code, ExitCode.ok);
      assert.match(stdout, /^auth: readers of its feed begin anew$/m);
      if (number === 2) assert.match(stdout, /^auth: 0 signing keys.*\n.* 0 sessions .* 0 mailed links and 0 known/);
    }
    // That of the logout, and those of the two sessions that lived, each once.
    const told = await inDatabase(system, "auth", "select id from feed_outbox where type like '%SessionEnded'");
    assert.equal(told.length, 3);
  });

  test("R-DB-10 R-OBX-16 that lost nothing, only readers begin anew", async () => {
    await using system = await startTestSystem();
    const { live } = await openRestored(system);
    const { code, stdout } = await runHere(["restored", "--nothing-lost"], variablesOf(system, system.signingKeys));
    assert.deepEqual(
      [code, stdout],
      [ExitCode.ok, withDatabase.map(({ name }) => `${name}: readers of its feed begin anew\n`).join("")],
    );
    await using server = await system.startReplica();
    await server.ready;
    assert.deepEqual(await fateOf(server, live), ["answered", "answered"]);
  });

  test("R-DB-10 of one database alone, what it lacks comes again from the feeds, once", async () => {
    await using system = await startTestSystem();
    const { adminUrl } = await testCluster();
    const names = new Map(withDatabase.map(({ name }) => [name, system.database(name).name]));
    await system.newUser();
    const profiles = () => inDatabase(system, "user", "select 1 from profiles");
    await until("the profile is there", async () => (await profiles()).length === 1);
    await system.server[Symbol.asyncDispose]();
    const [name, copy] = [names.get("user")!, `${names.get("user")}_copy`];
    await cloneDatabase(adminUrl, name, copy);
    {
      await using server = await system.startReplica();
      await server.ready;
      const auth = createClient(AuthService, userTransport(server.publicUrl));
      await newUser(auth, { stageName: "Night Owls" });
      const leaving = await newUser(auth);
      const own = createClient(AuthService, userTransport(server.publicUrl, leaving.accessToken));
      await own.deleteMyAccount({ currentPassword: leaving.password });
    }
    await dropDatabase(adminUrl, name);
    await asAdmin(adminUrl, (sql) => sql.unsafe(`alter database ${copy} rename to ${name}`));
    assert.equal((await runHere(["restored", "user"], variablesOf(system, system.signingKeys))).code, ExitCode.ok);
    await using databases = new ServiceDatabases(adminUrl, names);
    assert.equal((await databases.rows("user", "select 1 from profiles")).length, 1);
    await using server = await system.startReplica();
    await server.ready;
    await until("everybody has caught up", async () => {
      // Cursors that only pass events are written once a second.
      await system.advance(1_000);
      return databases.areCaughtUp();
    });
    const broken = [...(await databases.findFaults())].filter(([, count]) => count > 0);
    assert.deepEqual(broken, []);
    assert.equal((await databases.rows("user", "select 1 from profiles")).length, 3);
  });
});
