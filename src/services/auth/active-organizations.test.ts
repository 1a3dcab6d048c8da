/** The organization that access tokens name: asked for, remembered, refused; and no right by itself. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { sendHttp } from "../../testing/http.ts";
import { mailTo } from "../../testing/mails.ts";
import { addMember, makeOrganization, removeMember, resume, suspend } from "../../testing/memberships.ts";
import { refusalOf } from "../../testing/refusals.ts";
import { startTestService, startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { keepOrganization } from "./active-organizations.ts";
import { auth } from "./service.ts";

const NO_ORGANIZATION = "PermissionDenied NO_ORGANIZATION";
const AUTH_STALE = "Unavailable AUTH_STALE";
const RATE_LIMITED = "ResourceExhausted RATE_LIMITED";
const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";

/** The organization of an answer: what it says, which is what its token says. */
function organizationOf({ organizationId, accessToken }: { organizationId: string; accessToken: string }): string {
  assert.equal(decodeJwt(accessToken).org ?? "", organizationId);
  return organizationId;
}

function refresh(system: TestSystem, refreshToken: string, organizationId = "", idempotencyKey = "") {
  return system.asUser(AuthService).refreshToken({ refreshToken, organizationId, idempotencyKey });
}

function login(system: TestSystem, user: TestUser, organizationId = "") {
  return system.asUser(AuthService).login({ ...credentialsOf(user), organizationId });
}

function credentialsOf({ email, password }: TestUser) {
  return { email, password };
}

describe("the active organization", () => {
  let system: TestSystem;
  let ann: TestUser;
  let bakery: string;

  before(async () => {
    system = await startTestSystem();
    ann = await system.newUser();
    bakery = await makeOrganization(system, ann);
  });
  after(() => system[Symbol.asyncDispose]());

  test("C27 is the one that is asked for, then the last one that was", async () => {
    assert.equal(organizationOf(await login(system, ann)), "");
    const chosen = await login(system, ann, bakery.toUpperCase());
    assert.equal(organizationOf(chosen), bakery);
    const next = await refresh(system, chosen.refreshToken);
    assert.equal(organizationOf(next), bakery);
    assert.equal(organizationOf(await login(system, ann)), bakery);
    const another = await makeOrganization(system, ann);
    const switched = await refresh(system, next.refreshToken, another);
    assert.equal(organizationOf(switched), another);
    assert.equal(organizationOf(await login(system, ann)), another);
  });

  test("C27 two tabs with different organizations do not fight", async () => {
    const user = await system.newUser();
    const [one, other] = [await makeOrganization(system, user), await makeOrganization(system, user)];
    let { refreshToken } = user;
    for (const organizationId of [one, other, one, other]) {
      const answer = await refresh(system, refreshToken, organizationId);
      assert.equal(organizationOf(answer), organizationId);
      refreshToken = answer.refreshToken;
    }
  });

  test("C27 tabs that refresh at the same time with one key get one next token, each with its organization", async () => {
    const user = await system.newUser();
    const both = [await makeOrganization(system, user), await makeOrganization(system, user)];
    const answers = await Promise.all(both.map((id) => refresh(system, user.refreshToken, id, "k".repeat(16))));
    assert.deepEqual(answers.map(organizationOf), both);
    assert.equal(answers[0]!.refreshToken, answers[1]!.refreshToken);
  });

  test("C27 one that is not the person's is refused, and nothing is used up", async () => {
    const stranger = await system.newUser();
    for (const id of [bakery, crypto.randomUUID()]) {
      assert.equal(await refusalOf(login(system, stranger, id)), NO_ORGANIZATION);
      assert.equal(await refusalOf(refresh(system, stranger.refreshToken, id)), NO_ORGANIZATION);
    }
    assert.equal(organizationOf(await refresh(system, stranger.refreshToken)), "");
  });

  test("S-REF-18 organizations that are refused are asked for 60 times a minute and session at most", async () => {
    const user = await system.newUser();
    const ask = () => refusalOf(refresh(system, user.refreshToken, bakery));
    for (let count = 0; count < 60; count++) assert.equal(await ask(), NO_ORGANIZATION);
    assert.equal(await ask(), RATE_LIMITED);
    await system.advance(1_000);
    assert.equal(await ask(), NO_ORGANIZATION);
    assert.equal(await ask(), RATE_LIMITED);
    assert.equal(organizationOf(await refresh(system, user.refreshToken)), "", "others go on");
  });

  test("a refresh that is refused leaves the remembered organization as it is", async () => {
    const user = await system.newUser();
    const own = await makeOrganization(system, user);
    let { refreshToken } = user;
    for (let count = 0; count < 60; count++) ({ refreshToken } = await refresh(system, refreshToken));
    assert.equal(await refusalOf(refresh(system, refreshToken, own)), RATE_LIMITED);
    assert.equal(organizationOf(await login(system, user)), "");
  });

  test("S-PWD-13 a right password that gets no session for its organization is written down and told by mail", async () => {
    const user = await system.newUser();
    await login(system, user);
    const loginFrom = async (userAgent: string) => {
      const answer = await sendHttp("1.1", system.publicUrl, {
        httpMethod: "POST",
        path: `/${AuthService.typeName}/Login`,
        headers: [
          ["content-type", "application/json"],
          ["user-agent", userAgent],
        ],
        body: Buffer.from(JSON.stringify({ ...credentialsOf(user), organizationId: bakery })),
      });
      assert.equal(answer.status, 403);
    };
    await loginFrom("Thief");
    await mailTo(system, user.email, "A new sign-in to your account");
    const operator = system.asService(AuthInternalService, "operator", "auth");
    const { entries } = await operator.listAuditEntries({ userId: user.userId, action: "login" });
    const refused = entries.filter(({ succeeded }) => !succeeded);
    assert.deepEqual(
      refused.map(({ reason, userAgent }) => [reason, userAgent]),
      [["no_organization", "Thief"]],
    );
  });

  test("only who has the password, or a token of a live session, learns where somebody is a member", async () => {
    const guess = { email: ann.email, password: "not the password", organizationId: crypto.randomUUID() };
    assert.equal(await refusalOf(system.asUser(AuthService).login(guess)), "Unauthenticated BAD_CREDENTIALS");
    const user = await system.newUser();
    await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
    for (const refreshToken of [user.refreshToken, "unknown"]) {
      assert.equal(await refusalOf(refresh(system, refreshToken, crypto.randomUUID())), UNAUTHENTICATED);
    }
  });

  test("a token that was used before ends the family, whichever organization is asked for", async () => {
    const user = await system.newUser();
    const own = await makeOrganization(system, user);
    const next = await refresh(system, user.refreshToken, own);
    assert.equal(await refusalOf(refresh(system, user.refreshToken, own)), UNAUTHENTICATED);
    assert.equal(await refusalOf(refresh(system, next.refreshToken)), UNAUTHENTICATED);
  });

  test("S-TEN-14 a suspended one is absent in new tokens, and cannot be asked for, until it is resumed", async () => {
    const user = await system.newUser();
    const own = await makeOrganization(system, user);
    let { refreshToken } = await login(system, user, own);
    const owned = { system, owner: user, organizationId: own };
    await suspend(owned);
    // A family is refreshed so often a minute only: logins wait instead.
    await until("the suspension is known", async () => organizationOf(await login(system, user)) === "");
    const answer = await refresh(system, refreshToken);
    refreshToken = answer.refreshToken;
    assert.equal(organizationOf(answer), "");
    assert.equal(await refusalOf(refresh(system, refreshToken, own)), NO_ORGANIZATION);
    const { email, password, accessToken } = { ...user, ...(await login(system, user)) };
    const newPassword = `${password}-new`;
    const client = system.asUser(AuthService, accessToken);
    assert.equal(organizationOf(await client.changePassword({ currentPassword: password, newPassword })), "");
    await resume(owned);
    await until("the resumption is known", async () => {
      const answer = await system.asUser(AuthService).login({ email, password: newPassword });
      return organizationOf(answer) === own;
    });
  });

  test("S-JWT-25 a member who was removed gets no token for it any more", async () => {
    const user = await system.newUser();
    const owned = { system, owner: ann, organizationId: bakery };
    await addMember(owned, user);
    let { refreshToken } = await refresh(system, user.refreshToken, bakery);
    await removeMember(owned, user);
    await until("the removal is known", async () => organizationOf(await login(system, user)) === "");
    const answer = await refresh(system, refreshToken);
    refreshToken = answer.refreshToken;
    assert.equal(organizationOf(answer), "");
    assert.equal(await refusalOf(refresh(system, refreshToken, bakery)), NO_ORGANIZATION);
  });

  test("a new password keeps the organization of the token that it was changed with", async () => {
    const user = await system.newUser();
    const own = await makeOrganization(system, user);
    const { accessToken } = await login(system, user, own);
    const change = { currentPassword: user.password, newPassword: `${user.password}-new` };
    assert.equal(organizationOf(await system.asUser(AuthService, accessToken).changePassword(change)), own);
  });

  test("the remembered one goes with the account", async () => {
    const user = await system.newUser();
    const own = await makeOrganization(system, user);
    const { accessToken } = await login(system, user, own);
    const sql = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
    const remembered = async () =>
      (await sql`select last_organization_id as id from accounts where id = ${user.userId}`)[0]!.id;
    assert.equal(await remembered(), own);
    await system.asUser(AuthService, accessToken).deleteMyAccount({ currentPassword: user.password });
    assert.equal(await remembered(), null);
    await sql.end();
  });
});

test("the remembered organization is named again, at once, while nobody answers what is right", {
  timeout: 10_000,
}, async () => {
  const rights = { rightsOf: () => new Promise<never>(() => {}), follow: () => [] };
  const last = crypto.randomUUID();
  assert.equal(await keepOrganization({ rights }, crypto.randomUUID(), last), last);
});

test("while access and organization are away people get in: with what they had, but with nothing new", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  const user = await system.newUser();
  const organizationId = crypto.randomUUID();
  assert.equal(await refusalOf(login(system, user, organizationId)), AUTH_STALE);
  assert.equal(await refusalOf(refresh(system, user.refreshToken, organizationId)), AUTH_STALE);
  const sql = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
  await sql`update accounts set last_organization_id = ${organizationId} where id = ${user.userId}`;
  await sql.end();
  assert.equal(organizationOf(await refresh(system, user.refreshToken)), organizationId);
  assert.equal(organizationOf(await login(system, user)), organizationId);
});
