import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Sql } from "postgres";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { Code } from "../../errors.ts";
import { mailsTo, mailTo, tokenIn } from "../../testing/mails.ts";
import { refusal } from "../../testing/refusals.ts";
import { startTestService, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "./service.ts";

const SUBJECT = "Choose a new password";
const BAD_TOKEN = {
  code: Code.InvalidArgument,
  reason: "BAD_MAIL_TOKEN",
  message: "the link is wrong, was used already or is too old",
};

describe("password resets", () => {
  let system: TestSystem;
  let sql: Sql;

  before(async () => {
    system = await startTestService(auth);
    await system.server.ready;
    sql = connect(system.database("auth").ownerUrl, { applicationName: "test" });
  });

  after(async () => {
    await sql.end();
    await system[Symbol.asyncDispose]();
  });

  const client = (user?: TestUser) => system.asUser(AuthService, user?.accessToken);
  const isLive = async ({ sessionId }: TestUser, generation = 0) =>
    (await system.asService(AuthInternalService, "backend", "auth").checkSession({ sessionId, generation })).live;
  const reset = (token: string, newPassword = `new-${crypto.randomUUID()}`) =>
    client().resetPassword({ token, newPassword });

  async function askedToken({ email }: TestUser): Promise<string> {
    const before = (await mailsTo(system, email)).length;
    await client().requestPasswordReset({ email });
    const mail = await until("the mail", async () => {
      const mails = await mailsTo(system, email);
      return mails.length > before && mails.find(({ subject }) => subject === SUBJECT);
    });
    return tokenIn(mail.text);
  }

  test("a reset replaces the password, verifies the address, ends every session and says so by mail", async () => {
    const user = await system.newUser();
    await mailTo(system, user.email, "Confirm your e-mail address");
    const token = await askedToken(user);
    assert.equal(await isLive(user), true);

    await reset(token, "a password of tomorrow");

    assert.equal(await isLive(user), false);
    assert.equal((await refusal(client().refreshToken(user))).reason, "UNAUTHENTICATED");
    assert.equal((await refusal(client().login(user))).reason, "BAD_CREDENTIALS");
    await client().login({ email: user.email, password: "a password of tomorrow" });
    const internal = system.asService(AuthInternalService, "backend", "auth");
    assert.ok((await internal.getAccount({ userId: user.userId })).account?.emailVerifiedAt);
    await mailTo(system, user.email, "Your password was changed");
    const audited = await sql`select action, outcome from audit_log where account_id = ${user.userId} order by id`;
    assert.deepEqual(
      audited.map(({ action, outcome }) => `${action} ${outcome}`).filter((line) => line.startsWith("password")),
      ["password_reset_asked success", "password_reset success"],
    );
  });

  test("S-PWD-20 a reset token is good once: of 20 posts at once exactly one wins, and one later is refused", async () => {
    const user = await system.newUser();
    await mailTo(system, user.email, "Confirm your e-mail address");
    const token = await askedToken(user);
    const passwords = Array.from({ length: 20 }, (_, index) => `a password with number ${index}`);
    const results = await Promise.allSettled(passwords.map((password) => reset(token, password)));
    const refused = results.filter((result) => result.status === "rejected");
    assert.equal(refused.length, 19);
    for (const { reason } of refused) assert.deepEqual(await refusal(Promise.reject(reason)), BAD_TOKEN);
    const winner = results.findIndex(({ status }) => status === "fulfilled");
    await client().login({ email: user.email, password: passwords[winner]! });
    assert.deepEqual(await refusal(reset(token)), BAD_TOKEN);
  });

  test("S-PWD-20 a reset token is refused after 10 minutes, with a changed letter, and where it is for something else", async () => {
    const user = await system.newUser();
    const verification = await mailTo(system, user.email, "Confirm your e-mail address");
    const first = await askedToken(user);
    const guess = `${first[0] === "A" ? "B" : "A"}${first.slice(1)}`;
    for (const wrong of [guess, tokenIn(verification.text), "x", "%00", `${first} `]) {
      assert.deepEqual(await refusal(reset(wrong)), BAD_TOKEN);
    }
    assert.deepEqual(await refusal(client().verifyEmail({ token: first, password: user.password })), BAD_TOKEN);
    await system.advance(9 * 60_000 + 30_000);
    const second = await askedToken(user);
    await system.advance(31_000);
    assert.deepEqual(await refusal(reset(first)), BAD_TOKEN);
    await reset(second);
  });

  test("S-REF-22 a reset token from before a password change is dead, and so is that of a disabled account", async () => {
    const user = await system.newUser();
    await mailTo(system, user.email, "Confirm your e-mail address");
    const token = await askedToken(user);
    const verification = tokenIn((await mailTo(system, user.email, "Confirm your e-mail address")).text);
    await client(user).changePassword({ currentPassword: user.password, newPassword: "another good password" });
    assert.deepEqual(await refusal(reset(token)), BAD_TOKEN);
    const password = "another good password";
    assert.deepEqual(await refusal(client().verifyEmail({ token: verification, password })), BAD_TOKEN);
    const next = await askedToken(user);
    await system.asService(AuthInternalService, "operator", "auth").disableAccount({ userId: user.userId });
    assert.deepEqual(await refusal(reset(next)), BAD_TOKEN);
  });

  test("S-PWD-20 a reset token is good for half an hour after it was asked for, however late its mail was tried again", async () => {
    const user = await system.newUser();
    await mailTo(system, user.email, "Confirm your e-mail address");
    const triedAgain = async () => {
      const token = await askedToken(user);
      await system.advance(29 * 60_000);
      await sql`update mails set last_attempt_at = concierge_now() where account_id = ${user.userId}`;
      return token;
    };
    const first = await triedAgain();
    await system.advance(61_000);
    assert.deepEqual(await refusal(reset(first)), BAD_TOKEN);
    await reset(await triedAgain());
  });

  test("a new password that is too short uses nothing up", async () => {
    const user = await system.newUser();
    await mailTo(system, user.email, "Confirm your e-mail address");
    const token = await askedToken(user);
    assert.equal((await refusal(reset(token, "short"))).reason, "PASSWORD_TOO_SHORT");
    await reset(token);
  });

  test("S-PWD-25 an administrator has a reset mailed: sees no link, chooses no password, and the sessions end", async () => {
    const user = await system.newUser();
    const operator = system.asService(AuthInternalService, "operator", "auth");
    for (let round = 0; round < 3; round++) await client().requestPasswordReset(user);
    await until("three mails", async () => (await mailsTo(system, user.email)).length === 4);
    const { $typeName, ...answer } = await operator.sendPasswordReset({ userId: user.userId });
    assert.deepEqual(answer, {});
    assert.equal(await isLive(user), false);
    const mails = await until("the fourth, which strangers cannot prevent", async () => {
      const found = (await mailsTo(system, user.email)).filter(({ subject }) => subject === SUBJECT);
      return found.length === 4 && found;
    });
    await reset(tokenIn(mails[0]!.text));
    const unknown = operator.sendPasswordReset({ userId: crypto.randomUUID() });
    assert.equal((await refusal(unknown)).reason, "ACCOUNT_NOT_FOUND");
  });
});
