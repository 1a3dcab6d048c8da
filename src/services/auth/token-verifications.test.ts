/** VerifyToken: whose a token is and what the person may do, from memory, and never anybody else's. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { decodeJwt } from "jose";
import type { Sql } from "postgres";
import { Standing } from "../../../gen/concierge/access/v1/rights_pb.ts";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { CONSISTENCY_HEADER } from "../../rights/revisions.ts";
import { createTestClock } from "../../testing/clock.ts";
import { lockWaits } from "../../testing/lock-waits.ts";
import {
  addMember,
  deleteOrganization,
  makeOrganization,
  openBranch,
  removeMember,
  resume,
  suspend,
} from "../../testing/memberships.ts";
import { refusal, refusalOf } from "../../testing/refusals.ts";
import { startTestService, startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { signAccessToken } from "../../token/access-token.ts";
import { FRESH_MS } from "../../token/freshness.ts";
import { createServiceKey, createSigningKeys } from "../../token/key-making.ts";
import { createSigner, type KeySet } from "../../token/signing-keys.ts";
import { auth } from "./service.ts";

const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";

function verify(system: TestSystem, accessToken: string, options: { caller?: string; known?: string } = {}) {
  const { caller = "backend", known = "" } = options;
  const headers = { [CONSISTENCY_HEADER]: known };
  return system.asService(AuthInternalService, caller, "auth").verifyToken({ accessToken }, { headers });
}

/** A token of somebody's session that names an organization, whether the person may act there or not. */
function naming(
  system: TestSystem,
  user: { userId: string; sessionId: string; accessToken: string },
  organizationId?: string,
  keys: KeySet = system.signingKeys,
): string {
  const { iss: issuer, gen, auth_time, exp } = decodeJwt<{ gen: number; auth_time: number }>(user.accessToken);
  const times = { authenticatedAt: auth_time, expiresAt: exp! };
  const { userId, sessionId } = user;
  const claims = { userId, sessionId, organizationId, generation: gen, ...times };
  return signAccessToken(createSigner(keys), { issuer: issuer!, clock: system.clock }, claims);
}

function crowds<T>(people: T[], size: number): T[][] {
  return Array.from({ length: people.length / size }, (_, index) => people.slice(index * size, (index + 1) * size));
}

/** Whether a token is good for nothing; for another reason it may not be refused. */
async function isRefused(system: TestSystem, accessToken: string): Promise<boolean> {
  const call = verify(system, accessToken);
  const isAnswered = await call.then(
    () => true,
    () => false,
  );
  if (!isAnswered) assert.equal(await refusalOf(call), UNAUTHENTICATED);
  return !isAnswered;
}

describe("VerifyToken", () => {
  const billing = createServiceKey("billing", "auth", "backend");
  const clock = createTestClock();
  let system: TestSystem;
  let sql: Sql;

  before(async () => {
    const variables = { CONCIERGE_AUTH_AUDIENCES: "invoices", CONCIERGE_AUTH_CALLER_AUDIENCES: "billing=invoices" };
    system = await startTestSystem({ variables, extraKeys: [billing], clock });
    sql = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
  });
  after(async () => {
    await sql.end();
    await system[Symbol.asyncDispose]();
  });

  /** Another test may have moved the clock: who has lost track of sessions goes by the database, not by what was told. */
  async function untilFollowed() {
    const { accessToken } = await system.newUser();
    const freshAt = async () => timestampMs((await verify(system, accessToken)).freshAt!);
    await until("the sessions that end are followed", async () => (await freshAt()) > clock.now() - FRESH_MS);
  }

  async function newOwner() {
    const user = await system.newUser();
    const organizationId = await makeOrganization(system, user);
    const { email, password } = user;
    const tokens = await system.asUser(AuthService).login({ email, password, organizationId });
    return { ...user, ...tokens, organizationId };
  }

  test("tells who it is, and what the person may do in the organization that the token names", async () => {
    const owner = await newOwner();
    const {
      rights,
      expiresAt,
      freshAt,
      consistencyToken,
      $typeName: _,
      ...person
    } = await verify(system, owner.accessToken);
    const { userId, sessionId, email, organizationId } = owner;
    assert.deepEqual(person, {
      userId,
      sessionId,
      email,
      organizationId,
      firstName: "Ann",
      lastName: "Lee",
      active: true,
    });
    assert.equal(rights!.standing, Standing.ACTIVE);
    assert.deepEqual(rights!.roles, ["owner"]);
    assert.ok(rights!.permissions.includes("organization:delete"));
    assert.equal(timestampMs(expiresAt!), decodeJwt(owner.accessToken).exp! * 1_000);
    const age = system.clock.now() - timestampMs(freshAt!);
    assert.ok(age >= 0 && age <= 4_500, String(age));
    assert.notEqual(consistencyToken, "");
  });

  test("without an organization there are no rights", async () => {
    const user = await system.newUser();
    const { organizationId, rights, active, consistencyToken } = await verify(system, user.accessToken);
    assert.deepEqual([organizationId, rights, active, consistencyToken], ["", undefined, true, ""]);
  });

  test("whatever is wrong with a token, the answer is the same", async () => {
    const user = await system.newUser();
    const forged = naming(system, user, crypto.randomUUID(), await createSigningKeys("ES256"));
    const { email, password } = user;
    const other = await system.asUser(AuthService).login({ email, password, audience: "invoices" });
    const { accessToken } = await system.asUser(AuthService).login({ email, password });
    await system.asUser(AuthService, accessToken).endOtherSessions({});
    const tokens = ["", "x", "x".repeat(100_000), forged, `${accessToken}x`, other.accessToken];
    const refusals = await Promise.all(tokens.map((token) => refusal(verify(system, token))));
    await until("the end is known", () => isRefused(system, user.accessToken));
    for (const each of [...refusals, await refusal(verify(system, user.accessToken))]) {
      assert.deepEqual(each, { code: 16, reason: "UNAUTHENTICATED", message: "unauthenticated" });
    }
    const logged = new Set(system.logLines.map(({ refusal: why }) => why));
    for (const why of ["bad_form", "too_long", "unknown_kid", "bad_aud", "session_ended"])
      assert.ok(logged.has(why), why);
  });

  test("S-JWT-29 callers ask about the audiences that they are registered for, beside our own, and no others", async () => {
    const { email, password, accessToken } = await system.newUser();
    const invoices = await system.asUser(AuthService).login({ email, password, audience: "invoices" });
    for (const token of [accessToken, invoices.accessToken]) {
      assert.equal((await verify(system, token, { caller: "billing" })).email, email);
    }
    assert.equal(await refusalOf(verify(system, invoices.accessToken, { caller: "backend" })), UNAUTHENTICATED);
  });

  test("C2 of 1,000 users with tokens of the same begin nobody gets another one's answer", async () => {
    const prefix = crypto.randomUUID().slice(0, 8);
    const rows = await sql`
      insert into accounts (id, email, email_key, first_name, last_name, locale)
      select gen_random_uuid(), n || '@' || ${prefix}, n || '@' || ${prefix}, 'first ' || n, 'last ' || n, ''
      from generate_series(1, 1000) n returning id, email, first_name`;
    const { accessToken } = await system.newUser();
    const people = rows.map(({ id, email, first_name }) => {
      const sessionId = crypto.randomUUID();
      const token = naming(system, { userId: id, sessionId, accessToken });
      return { token, expected: [id, sessionId, email, first_name] };
    });
    assert.equal(new Set(people.map(({ token }) => token.slice(0, 20))).size, 1);
    // No database knows their sessions.
    await untilFollowed();
    // All of them twice, the second time from memory; some at a time, as many as are asked about at once.
    for (const crowd of [...crowds(people, 50), ...crowds(people, 50)]) {
      const answers = await Promise.all(crowd.map(({ token }) => verify(system, token)));
      const found = answers.map(({ userId, sessionId, email, firstName }) => [userId, sessionId, email, firstName]);
      assert.deepEqual(
        found,
        crowd.map(({ expected }) => expected),
      );
    }
  });

  test("what is known is answered without the database, and without asking anybody", async () => {
    const owner = await newOwner();
    const questions = /GetUserPermissions|GetMembership|CheckSession|GetAccount/;
    const asked = () => system.logLines.filter(({ procedure }) => questions.test(String(procedure))).length;
    // What is still told of a new organization makes what is known of it unknown once more.
    await until("it is known", async () => {
      await verify(system, owner.accessToken);
      const before = asked();
      const transaction = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
      try {
        await transaction`begin`;
        await transaction`lock table accounts, sessions, refresh_tokens in access exclusive mode`;
        assert.equal((await verify(system, owner.accessToken)).organizationId, owner.organizationId);
      } finally {
        await transaction.end();
      }
      return asked() === before;
    });
  });

  test("S-JWT-25 C21 who is removed, or whose organization is suspended or deleted, is somebody without rights", async () => {
    const [owner, member] = [await newOwner(), await system.newUser()];
    const { organizationId } = owner;
    const owned = { system, owner, organizationId };
    const { branchId, consistencyToken } = await openBranch(owned);
    const { rights } = await verify(system, owner.accessToken, { known: consistencyToken });
    assert.deepEqual(
      rights!.branches.map((branch) => branch.branchId),
      [branchId],
    );
    const token = naming(system, member, organizationId);
    const isActing = async (accessToken: string) => {
      const { rights, ...answer } = await verify(system, accessToken);
      assert.equal(answer.active, true);
      assert.equal(answer.organizationId !== "", rights !== undefined);
      return rights !== undefined;
    };
    assert.equal(await isActing(token), false);
    const known = await addMember(owned, member);
    assert.ok((await verify(system, token, { known })).rights, "a change that is known to the caller is waited for");
    await removeMember(owned, member);
    await until("the removal is known", async () => !(await isActing(token)));
    await suspend(owned);
    await until("the suspension is known", async () => !(await isActing(owner.accessToken)));
    await resume(owned);
    await until("the resumption is known", () => isActing(owner.accessToken));
    await deleteOrganization(owned);
    await until("the deletion is known", async () => !(await isActing(owner.accessToken)));
    assert.equal(await isActing(naming(system, member, crypto.randomUUID())), false);
  });

  test("C14 a disabled account: inactive and nothing else until its sessions are known to have ended, then refused", async () => {
    const owner = await newOwner();
    await untilFollowed();
    await sql`update accounts set status = 'disabled' where id = ${owner.userId}`;
    const { active, organizationId, rights } = await verify(system, owner.accessToken);
    assert.deepEqual([active, organizationId, rights], [false, "", undefined]);
    await sql`update accounts set status = 'active' where id = ${owner.userId}`;
    assert.equal((await verify(system, owner.accessToken)).active, true);
    const operator = system.asService(AuthInternalService, "operator", "auth");
    await operator.disableAccount({ userId: owner.userId });
    await until("it is refused", () => isRefused(system, owner.accessToken));
    await operator.enableAccount({ userId: owner.userId });
    const { email, password } = owner;
    const { accessToken } = await system.asUser(AuthService).login({ email, password });
    assert.equal((await verify(system, accessToken)).active, true);
  });

  test("R-KEY-04 nobody can tell any more whether the session lives, while the rest is looked up: neither valid nor ended", async () => {
    const user = await system.newUser();
    const other = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
    await sql`begin`;
    await other`begin`;
    try {
      await sql`lock table accounts in access exclusive mode`;
      await other`lock table sessions in access exclusive mode`;
      const call = refusalOf(verify(system, user.accessToken));
      await until("it waits for the account", async () => (await lockWaits(sql, "accounts")) > 0);
      clock.advance(5_000);
      await sql`commit`;
      // Whatever the feed tells meanwhile is about a time that is over.
      await until("the session is asked for", async () => {
        clock.advance(5_000);
        return (await lockWaits(other, "sessions")) > 0;
      });
      assert.equal(await call, "Unavailable AUTH_STALE");
    } finally {
      await other`rollback`;
      await other.end();
      await sql`rollback`;
    }
  });

  test("names are those that the person gave last, wherever that was", async () => {
    const user = await system.newUser();
    assert.equal((await verify(system, user.accessToken)).firstName, "Ann");
    const client = system.asUser(UserService, user.accessToken);
    await client.updateUser({ firstName: "Anna", updateMask: { paths: ["first_name"] } });
    await until("the name is known", async () => (await verify(system, user.accessToken)).firstName === "Anna");
    const operator = system.asService(AuthInternalService, "operator", "auth");
    const { account } = await operator.getAccount({ userId: user.userId });
    assert.deepEqual([account!.firstName, account!.lastName], ["Anna", "Lee"]);
  });

  test("S-HMAC-18 the holder of a service key acts for nobody whose token it does not have", async () => {
    const [user, victim] = [await system.newUser(), await system.newUser()];
    const headers = { authorization: `Bearer ${victim.accessToken}`, "x-user-id": victim.userId };
    const client = system.asService(AuthInternalService, "backend", "auth");
    assert.equal((await client.verifyToken({ accessToken: user.accessToken }, { headers })).userId, user.userId);
    assert.equal(await refusalOf(client.verifyToken({ accessToken: "" }, { headers })), UNAUTHENTICATED);
    assert.equal(await refusalOf(client.verifyToken({ accessToken: victim.userId }, { headers })), UNAUTHENTICATED);
  });
});

test("C21 while access and organization are away nobody is told to have no rights", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  const user = await system.newUser();
  const token = naming(system, user, crypto.randomUUID());
  assert.equal(await refusalOf(verify(system, token)), "Unavailable AUTH_STALE");
  assert.equal((await verify(system, user.accessToken)).active, true);
});
