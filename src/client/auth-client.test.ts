/** The client against a whole system: whose token it is, what that person may do, and that nothing is asked twice. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { decodeJwt } from "jose";
import { AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { OrganizationInternalService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { connect } from "../db/connection.ts";
import { createTestClient } from "../testing/auth-clients.ts";
import { addMember, makeOrganization, openBranch, removeMember } from "../testing/memberships.ts";
import { refusalOf } from "../testing/refusals.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { signAccessToken } from "../token/access-token.ts";
import { createSigner } from "../token/signing-keys.ts";
import type { AuthClient, Fault } from "./auth-client.ts";

const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";
const PERMISSION_MISSING = "PermissionDenied PERMISSION_MISSING";
const CROWD = 1_000;
const AT_ONCE = 2;

let system: TestSystem;
let client: AuthClient;
let owner: TestUser;
let clerk: TestUser;
let organizationId: string;
let branchId: string;
const faults: Fault[] = [];
const opened = new AsyncDisposableStack();

before(async () => {
  system = opened.use(await startTestSystem());
  [owner, clerk] = [await system.newUser(), await system.newUser({ firstName: "Bea" })];
  organizationId = await makeOrganization(system, owner);
  const owned = { system, owner, organizationId };
  await addMember(owned, clerk);
  ({ branchId } = await openBranch(owned));
  const access = system.asMember(AccessService, owner, organizationId);
  await access.createRole({ name: "cashier", permissions: ["branches:update"] });
  await access.assignRole({ userId: clerk.userId, role: "cashier", branchId });
  // The services share this process: being slow must not count as being gone.
  const resilience = { breaker: { failures: CROWD, openMs: 1_000 } };
  client = opened.use(createTestClient(system, owner, { resilience, onFault: (fault) => faults.push(fault) }));
  await client.ready;
});
after(() => opened.disposeAsync());

/** How often backends called a method since the last look. */
function callsOf(method: string): () => number {
  const count = () => linesOf(method).length;
  let seen = count();
  return () => {
    const before = seen;
    seen = count();
    return seen - before;
  };
}

function linesOf(method: string) {
  return system.logLines.filter(
    ({ procedure, caller }) => `${procedure}`.endsWith(`/${method}`) && `${caller}`.includes("backend"),
  );
}

/** A token without organization. */
function tokenOf(userId: string): string {
  const { iss: issuer, gen: generation, exp } = decodeJwt<{ gen: number }>(owner.accessToken);
  const claims = { userId, sessionId: crypto.randomUUID(), generation, authenticatedAt: 0, expiresAt: exp! };
  return signAccessToken(createSigner(system.signingKeys), { issuer: issuer!, clock: system.clock }, claims);
}

/** A token of somebody whom auth knows nothing of. */
function tokenOfNobody(): string {
  return system.memberToken({ ...owner, userId: crypto.randomUUID(), sessionId: crypto.randomUUID() }, organizationId);
}

describe("a token", () => {
  test("says who sent it, without a call", async () => {
    const token = system.memberToken(owner, organizationId);
    const calls = ["CheckSession", "VerifyToken"].map(callsOf);
    const { userId, sessionId, expiresAt } = await client.authenticate(token);
    assert.deepEqual([userId, sessionId, expiresAt], [owner.userId, owner.sessionId, decodeJwt(token).exp]);
    assert.deepEqual(
      calls.map((count) => count()),
      [0, 0],
    );
    for (const wrong of ["", "x", `${token.slice(0, -2)}AA`]) {
      assert.equal(await refusalOf(client.authenticate(wrong)), UNAUTHENTICATED);
    }
  });

  test("C1 C21 is told about as auth tells it, and in the words of both clients of before", async () => {
    const auth = system.asService(AuthInternalService, "backend", "auth");
    for (const token of [system.memberToken(clerk, organizationId), clerk.accessToken]) {
      const told = await client.verifyToken(token);
      const remote = await auth.verifyToken({ accessToken: token });
      const { email, firstName, lastName, active, userId, sessionId } = remote;
      assert.deepEqual(
        { ...told, permissions: [], locals: [], localPermissions: [], consistencyToken: "" },
        {
          ...{ email, firstName, lastName, active, isActive: active, userId, sessionId },
          organizationId: remote.organizationId,
          expiresAt: decodeJwt(token).exp,
          ...{ permissions: [], locals: [], localPermissions: [], consistencyToken: "" },
        },
      );
      assert.deepEqual(told.permissions, remote.rights?.permissions ?? []);
      assert.deepEqual(told.locals, remote.rights?.branches.map((branch) => branch.branchId) ?? []);
    }
    const { localPermissions, firstName } = await client.verifyToken(system.memberToken(clerk, organizationId));
    assert.deepEqual(localPermissions, [{ localId: branchId, permissions: ["branches:update"] }]);
    assert.equal(firstName, "Bea");
  });

  test("S-SDK-01 C2 of a thousand people who are verified at once, each is told their own", async () => {
    const people = Array.from({ length: CROWD }, () => crypto.randomUUID());
    const sql = connect(system.database("auth").ownerUrl, { applicationName: "test" });
    await sql`insert into accounts (id, email, email_key, first_name, last_name, locale)
      select id, id || '@example.com', id || '@example.com', id, 'Crowd', 'en' from unnest(${people}::uuid[]) id`;
    await sql.end();
    const tokens = people.map((userId) => tokenOf(userId));
    // What the client of before kept its answers by.
    assert.equal(new Set(tokens.map((token) => token.slice(0, 20))).size, 1);
    const principals = await Promise.all(tokens.map((token) => client.authenticate(token)));
    assert.deepEqual(
      principals.map(({ userId }) => userId),
      people,
    );
    const count = callsOf("VerifyToken");
    // Not more at once than auth, in this very process, can answer in time.
    for (let first = 0; first < CROWD; first += AT_ONCE) {
      await Promise.all(tokens.slice(first, first + AT_ONCE).map((token) => client.verifyToken(token)));
    }
    assert.equal(count(), CROWD);
    const answers = await Promise.all(tokens.map((token) => client.verifyToken(token)));
    assert.deepEqual(
      answers.map(({ userId, email, firstName }) => [userId, email, firstName]),
      people.map((id) => [id, `${id}@example.com`, id]),
    );
    assert.equal(count(), 0);
  });

  test("asked about a thousand times at once is asked about once", async () => {
    // On a busy machine they may wait for longer than a question does.
    await until("they are answered", async () => {
      const token = system.memberToken(await system.newUser(), organizationId);
      const [tokens, rights] = [callsOf("VerifyToken"), callsOf("GetUserPermissions")];
      const ends = await Promise.allSettled(Array.from({ length: CROWD }, () => client.verifyToken(token)));
      if (ends.some(({ status }) => status === "rejected")) return false;
      assert.deepEqual([tokens(), rights()], [1, 1]);
      return true;
    });
  });

  test("S-SDK-02 that is known is good for nothing within a second of a logout", async () => {
    // A busy machine may be late once; who is late each time does not keep the promise.
    const tookMs: number[] = [];
    while (tookMs.length < 3 && !tookMs.some((ms) => ms < 1_000)) {
      const user = await system.newUser();
      await client.verifyToken(user.accessToken);
      await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
      const loggedOutAt = performance.now();
      const isRefused = async () => (await refusalOf(client.verifyToken(user.accessToken))) === UNAUTHENTICATED;
      await until("it is refused", () => isRefused().catch(() => false));
      tookMs.push(performance.now() - loggedOutAt);
      assert.equal(await refusalOf(client.authorize(user.accessToken)), UNAUTHENTICATED);
    }
    assert.ok(Math.min(...tookMs) < 1_000, `${tookMs} ms`);
  });

  test("S-SDK-03 that auth refuses is not asked about again for a second, and then it is", async () => {
    const clock = { ...system.clock, monotonic: () => system.clock.monotonic() + passedMs };
    let passedMs = 0;
    await using impatient = createTestClient(system, owner, { clock });
    await impatient.ready;
    const token = tokenOfNobody();
    const count = callsOf("VerifyToken");
    for (const calls of [1, 0, 1]) {
      assert.equal(await refusalOf(impatient.verifyToken(token)), UNAUTHENTICATED);
      assert.equal(count(), calls);
      passedMs += 600;
    }
  });

  test("of somebody who has left gives nothing", async () => {
    const user = await system.newUser();
    await addMember({ system, owner, organizationId }, user);
    const token = system.memberToken(user, organizationId);
    assert.equal((await client.verifyToken(token)).organizationId, organizationId);
    await removeMember({ system, owner, organizationId }, user);
    const told = await until("it is told", async () => {
      const verified = await client.verifyToken(token);
      return verified.organizationId === "" && verified;
    });
    assert.deepEqual([told.active, told.permissions, told.locals], [true, [], []]);
    assert.equal(await refusalOf(client.authorize(token, { permission: "members:read" })), PERMISSION_MISSING);
  });
});

describe("a permission", () => {
  test("is what lets a token through, in its organization or in one of the branches", async () => {
    const token = system.memberToken(clerk, organizationId);
    const permission = "branches:update";
    assert.equal(await refusalOf(client.authorize(token, { permission })), PERMISSION_MISSING);
    assert.equal((await client.authorize(token, { permission, branchId })).userId, clerk.userId);
    assert.equal((await client.authorize(token, { permission: "branches:read" })).organizationId, organizationId);
    const elsewhere = system.memberToken(clerk, crypto.randomUUID());
    assert.equal(await refusalOf(client.authorize(elsewhere, { permission })), PERMISSION_MISSING);
    assert.equal(
      await refusalOf(client.authorize(clerk.accessToken, { permission })),
      "PermissionDenied NO_ORGANIZATION",
    );
  });

  test("C13 is denied to whoever is unknown", async () => {
    const decide = (changes: object) =>
      client.decidePermission({ userId: owner.userId, organizationId, permission: "members:invite", ...changes });
    const faultsBefore = faults.length;
    assert.equal(await decide({}), "allowed");
    assert.equal(
      await decide({ userId: owner.userId.toUpperCase(), organizationId: organizationId.toUpperCase() }),
      "allowed",
    );
    for (const changes of [
      { userId: clerk.userId },
      { userId: crypto.randomUUID() },
      { userId: "x" },
      { organizationId: crypto.randomUUID() },
      { organizationId: "" },
      { permission: "nobody:knows" },
      { branchId: crypto.randomUUID() },
    ]) {
      assert.equal(await decide(changes), "denied", inspect(changes));
    }
    assert.equal(await refusalOf(decide({ consistencyToken: "x" })), "InvalidArgument INVALID_CONSISTENCY_TOKEN");
    assert.equal(faults.length, faultsBefore);
  });

  test("C20 is decided by nothing older than what this client has changed", async () => {
    const organizations = client.service(OrganizationInternalService);
    const question = { userId: clerk.userId, organizationId, permission: "members:read" };
    for (let round = 0; round < 10; round++) {
      await organizations.suspendOrganization({ organizationId });
      assert.equal(await client.decidePermission(question), "denied");
      await organizations.resumeOrganization({ organizationId });
      assert.equal(await client.decidePermission(question), "allowed");
    }
  });

  test("and branches are told as a list; of whoever is no member, there is none", async () => {
    const { permissions, locals, localPermissions } = await client.getUserPermissions({ ...clerk, organizationId });
    assert.deepEqual(permissions, ["branches:read", "members:read", "organization:read"]);
    assert.deepEqual([locals, localPermissions.length], [[branchId], 1]);
    assert.deepEqual(await client.getUserLocals({ ...owner, organizationId }), [branchId]);
    const stranger = { userId: crypto.randomUUID(), organizationId };
    assert.equal(await refusalOf(client.getUserLocals(stranger)), "NotFound USER_NOT_FOUND");
    const nowhere = { ...owner, organizationId: crypto.randomUUID() };
    assert.equal(await refusalOf(client.getUserPermissions(nowhere)), "NotFound ORGANIZATION_NOT_FOUND");
  });
});

test("an organization is asked for once, and again when it has changed", async () => {
  const count = callsOf("GetOrganization");
  const expected = { id: organizationId, name: "Bakery", plan: "free", status: "active", isActive: true, modules: [] };
  for (let time = 0; time < 3; time++) assert.deepEqual(await client.getOrganization(organizationId), expected);
  assert.equal(count(), 1);
  await client.service(OrganizationInternalService).setPlan({ organizationId, plan: "gold" });
  await until("the new plan is known", async () => (await client.getOrganization(organizationId)).plan === "gold");
  for (const id of [crypto.randomUUID(), "x"]) {
    assert.equal(await refusalOf(client.getOrganization(id)), "NotFound ORGANIZATION_NOT_FOUND");
  }
});

test("S-SDK-09 nothing that can be printed holds a token or a secret", async () => {
  const token = system.memberToken(owner, organizationId);
  await client.verifyToken(token);
  const errors = [`${token}x`, tokenOfNobody()].map((wrong) =>
    client.verifyToken(wrong).catch((error: unknown) => error),
  );
  const printed = [client, ...(await Promise.all(errors)), ...faults].map((each) =>
    inspect(each, { depth: 20, showHidden: true }),
  );
  printed.push(JSON.stringify(client), String(client));
  const secrets = system.serviceKeys.map(({ secret }) => secret);
  for (const text of printed) {
    for (const secret of [...secrets, token, token.split(".")[2]!, "svc+jwt"]) assert.ok(!text.includes(secret));
  }
});

test("staleness and breakers can be seen, and a closed client is closed", async () => {
  const closing = createTestClient(system, owner);
  assert.deepEqual(closing.staleness(), { auth: undefined, access: undefined, organization: undefined });
  await closing.ready;
  for (const age of Object.values(closing.staleness())) assert.ok(age! >= 0 && age! < 4_500);
  await closing.verifyToken(owner.accessToken);
  assert.equal(closing.breakers().auth, "closed");
  await closing.close();
  await closing.close();
});
