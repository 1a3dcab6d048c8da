import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import type { RunningServer } from "../../server.ts";
import { sendHttp } from "../../testing/http.ts";
import { mailsTo, mailTo, tokenIn } from "../../testing/mails.ts";
import { refusal } from "../../testing/refusals.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { access } from "../access/service.ts";
import { user as userService } from "../user/service.ts";
import { auth } from "./service.ts";

const CONFIRM = "Confirm your e-mail address";
const CONFIRM_NEW = "Confirm your new e-mail address";
const TAKEN = "You have an account already";
const NEW_LOGIN = "A new sign-in to your account";
const PASSWORD = "a rather long password";

const newAddress = () => `${crypto.randomUUID()}@example.com`;

describe("e-mail addresses", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, userService] });
  });

  after(() => system[Symbol.asyncDispose]());

  const client = (user?: TestUser) => system.asUser(AuthService, user?.accessToken);
  const internal = () => system.asService(AuthInternalService, "backend", "auth");
  const accountOf = async ({ userId }: { userId: string }) => (await internal().getAccount({ userId })).account!;
  const reasonFor = async (promise: Promise<unknown>) => (await refusal(promise)).reason;
  const confirmation = async (email: string, subject = CONFIRM) => tokenIn((await mailTo(system, email, subject)).text);

  test("S-PWD-23 the first verification ends the sessions from before it, and asks for the password", async () => {
    const user = await system.newUser();
    const token = await confirmation(user.email);
    const { password } = user;
    // Who follows the link of a registration that is not theirs does not let in who has made it.
    assert.equal(await reasonFor(client().verifyEmail({ token, password: "not the password" })), "BAD_CREDENTIALS");
    assert.equal((await accountOf(user)).emailVerifiedAt, undefined);
    assert.equal((await internal().checkSession({ sessionId: user.sessionId, generation: 0 })).live, true);

    await client().verifyEmail({ token, password });

    assert.ok((await accountOf(user)).emailVerifiedAt);
    assert.equal((await internal().checkSession({ sessionId: user.sessionId, generation: 0 })).live, false);
    assert.equal(await reasonFor(client().refreshToken(user)), "UNAUTHENTICATED");
    assert.equal(await reasonFor(client().verifyEmail({ token, password })), "BAD_MAIL_TOKEN");
  });

  test("S-PWD-23 the owner of an address that somebody else has registered takes it over by a reset", async () => {
    const attacker = await system.newUser();
    await client().requestPasswordReset(attacker);
    const token = await confirmation(attacker.email, "Choose a new password");
    await client().resetPassword({ token, newPassword: PASSWORD });
    assert.equal((await internal().checkSession({ sessionId: attacker.sessionId, generation: 0 })).live, false);
    assert.equal(await reasonFor(client().login(attacker)), "BAD_CREDENTIALS");
    const stale = { token: await confirmation(attacker.email), password: attacker.password };
    assert.equal(await reasonFor(client().verifyEmail(stale)), "BAD_MAIL_TOKEN");
  });

  test("a verification is good for 24 hours, and another one is mailed until the address is verified", async () => {
    const user = await system.newUser();
    const first = await confirmation(user.email);
    await system.advance(86_400_000 + 1_000);
    assert.equal(await reasonFor(client().verifyEmail({ ...user, token: first })), "BAD_MAIL_TOKEN");
    await client().resendVerification(user);
    const count = async () => (await mailsTo(system, user.email)).filter(({ subject }) => subject === CONFIRM).length;
    await until("the second mail", async () => (await count()) === 2);
    await client().verifyEmail({ ...user, token: await confirmation(user.email) });
    await client().resendVerification(user);
    const other = await system.newUser();
    await confirmation(other.email);
    assert.equal(await count(), 2);
  });

  test("a new address takes the password, a link mailed to it, and then shows in the profile", async () => {
    const user = await system.newUser();
    await confirmation(user.email);
    await system.asUser(UserService, user.accessToken).getMe({});
    const newEmail = newAddress();
    const change = (currentPassword: string) => client(user).changeEmail({ newEmail, currentPassword });
    assert.equal(await reasonFor(change("not the password")), "BAD_CREDENTIALS");
    await change(user.password);
    await mailTo(system, user.email, "Your e-mail address is about to change");
    const token = await confirmation(newEmail, CONFIRM_NEW);
    assert.equal((await accountOf(user)).email, user.email);

    assert.equal(await reasonFor(client().verifyEmail({ token, password: "not the password" })), "BAD_CREDENTIALS");
    await client().verifyEmail({ token, password: user.password });

    assert.equal((await accountOf(user)).email, newEmail);
    assert.equal(await reasonFor(client().login(user)), "BAD_CREDENTIALS");
    const { accessToken } = await client().login({ email: newEmail, password: user.password });
    await until("the profile's address", async () => {
      return (await system.asUser(UserService, accessToken).getMe({})).user?.email === newEmail;
    });
    await system.newUser({ email: user.email });
  });

  test("S-REF-22 S-PWD-20 links from before an e-mail change are dead after it", async () => {
    const user = await system.newUser();
    const verification = await confirmation(user.email);
    await client().requestPasswordReset(user);
    const reset = await confirmation(user.email, "Choose a new password");
    const newEmail = newAddress();
    await client(user).changeEmail({ newEmail, currentPassword: user.password });
    const token = await confirmation(newEmail, CONFIRM_NEW);
    await client().verifyEmail({ ...user, token });
    assert.equal(await reasonFor(client().verifyEmail({ ...user, token: verification })), "BAD_MAIL_TOKEN");
    assert.equal(await reasonFor(client().resetPassword({ token: reset, newPassword: PASSWORD })), "BAD_MAIL_TOKEN");
  });

  test("S-PWD-12 a change to a taken address answers as to a free one, and only its owner is told", async () => {
    const owner = await system.newUser();
    const user = await system.newUser();
    const change = (newEmail: string) => client(user).changeEmail({ newEmail, currentPassword: user.password });
    assert.deepEqual(await change(owner.email.toUpperCase()), await change(newAddress()));
    await mailTo(system, owner.email, TAKEN);
    assert.ok((await mailsTo(system, owner.email)).every(({ subject }) => subject !== CONFIRM_NEW));
    await change(owner.email);
    for (const email of [owner.email, newAddress()]) assert.equal(await reasonFor(change(email)), "RATE_LIMITED");
  });

  test("an address that was taken while its link was on the way stays with who was first", async () => {
    const user = await system.newUser();
    const newEmail = newAddress();
    await client(user).changeEmail({ newEmail, currentPassword: user.password });
    const token = await confirmation(newEmail, CONFIRM_NEW);
    await system.newUser({ email: newEmail });
    assert.equal(await reasonFor(client().verifyEmail({ ...user, token })), "BAD_MAIL_TOKEN");
    assert.equal((await accountOf(user)).email, user.email);
  });

  test("a login from somewhere new is told by mail, the first one and one from the same place are not", async () => {
    const user = await system.newUser();
    await client().login(user);
    await confirmation(user.email);
    const loginFrom = async (userAgent: string) => {
      const { status } = await sendHttp("1.1", system.publicUrl, {
        httpMethod: "POST",
        path: `/${AuthService.typeName}/Login`,
        headers: [
          ["content-type", "application/json"],
          ["user-agent", userAgent],
        ],
        body: Buffer.from(JSON.stringify({ email: user.email, password: user.password })),
      });
      assert.equal(status, 200);
    };
    await loginFrom("Phone");
    const mail = await mailTo(system, user.email, NEW_LOGIN);
    assert.match(mail.text, /from the address (127\.0\.0\.1|::1)\.$/m);
    await loginFrom("Phone");
    await client().login(user);
    await client().requestPasswordReset(user);
    await confirmation(user.email, "Choose a new password");
    assert.equal((await mailsTo(system, user.email)).filter(({ subject }) => subject === NEW_LOGIN).length, 1);
  });

  test("a reused refresh token and a changed password are told by mail", async () => {
    const user = await system.newUser();
    await client().refreshToken(user);
    assert.equal(await reasonFor(client().refreshToken(user)), "UNAUTHENTICATED");
    await mailTo(system, user.email, "A session of your account was ended");
    const { accessToken } = await client().login(user);
    await client({ ...user, accessToken }).changePassword({ currentPassword: user.password, newPassword: PASSWORD });
    await mailTo(system, user.email, "Your password was changed");
  });

  test("mails are shown on the internal listener only, as text", async () => {
    const email = `a&b+${newAddress()}`;
    await system.newUser({ email });
    await confirmation(email);
    for (const path of ["/dev/mails", "/dev/mails.json"]) {
      const get = (url: string) => sendHttp("1.1", url, { httpMethod: "GET", path, headers: [] });
      assert.equal((await get(system.publicUrl)).status, 404);
      assert.equal((await get(system.internalUrl)).status, 200);
    }
    const page = await sendHttp("1.1", system.internalUrl, { httpMethod: "GET", path: "/dev/mails", headers: [] });
    assert.ok(String(page.body).includes("<p>To a&#38;b+") && !String(page.body).includes(email));
  });

  describe("where they must be verified", () => {
    let strict: RunningServer;
    const clientOf = () =>
      createClient(AuthService, createConnectTransport({ baseUrl: strict.publicUrl, httpVersion: "1.1" }));
    /** Either replica may have sent it. */
    const mailOf = (email: string, subject: string) =>
      until(`the mail "${subject}"`, async () => {
        const mails = await Promise.all([mailsTo(system, email), mailsTo(strict, email)]);
        return mails.flat().find((mail) => mail.subject === subject);
      });

    before(async () => {
      strict = await system.startReplica({ CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "true" });
      await strict.ready;
    });

    after(() => strict[Symbol.asyncDispose]());

    test("S-PWD-12 S-LOG-04 a registration answers the same for a known and an unknown address; the owner is told by mail", async () => {
      const known = await system.newUser();
      const unknown = newAddress();
      for (const email of [known.email, unknown]) {
        const user = await clientOf().registerUser({ email, password: PASSWORD });
        const artist = await clientOf().registerArtist({ email, password: PASSWORD, stageName: "Lee" });
        assert.deepEqual([user.userId, artist.userId], ["", ""]);
        const short = clientOf().registerUser({ email, password: "short" });
        assert.equal(await reasonFor(short), "PASSWORD_TOO_SHORT");
      }
      await mailOf(known.email, TAKEN);
      await client().login(known);
      await mailOf(unknown, CONFIRM);
    });

    test("S-LOG-04 of 20 registrations of one address at once one makes an account, and all get the same answer", async () => {
      const email = newAddress();
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => clientOf().registerUser({ email, password: PASSWORD })),
      );
      assert.ok(answers.every(({ userId }) => userId === ""));
      await mailOf(email, TAKEN);
      await mailOf(email, CONFIRM);
      const mails = (await Promise.all([mailsTo(system, email), mailsTo(strict, email)])).flat();
      assert.equal(mails.filter(({ subject }) => subject === CONFIRM).length, 1);
      assert.ok(mails.filter(({ subject }) => subject === TAKEN).length <= 3);
    });

    test("S-PWD-12 who registers and then logs in does not learn whether the address was taken", async () => {
      const [email, taken] = [newAddress(), newAddress()];
      await clientOf().registerUser({ email: taken, password: `${PASSWORD}, of its owner` });
      for (const each of [email, taken]) await clientOf().registerUser({ email: each, password: PASSWORD });
      const login = (address: string, password = PASSWORD) => clientOf().login({ email: address, password });
      const refused = await refusal(login(email));
      assert.equal(refused.message, "e-mail or password is wrong, or the address is not verified yet");
      assert.deepEqual(await refusal(login(taken)), refused);
      assert.deepEqual(await refusal(login(newAddress())), refused);
      // Nor by what becomes of many tries.
      const reasons = async (address: string) => {
        const found = [];
        for (let tries = 0; tries < 10; tries++) found.push((await refusal(login(address))).reason);
        return found;
      };
      assert.deepEqual(await reasons(email), await reasons(taken));
    });

    test("who has verified the address gets in", async () => {
      const email = newAddress();
      await clientOf().registerUser({ email, password: PASSWORD });
      const token = tokenIn((await mailOf(email, CONFIRM)).text);
      await clientOf().verifyEmail({ token, password: PASSWORD });
      assert.notEqual((await clientOf().login({ email, password: PASSWORD })).userId, "");
    });
  });
});

test("where no mails are sent none is written, and what needs one says so", async () => {
  await using system = await startTestSystem({
    definitions: [auth, access],
    variables: { CONCIERGE_MODE: "demo" },
  });
  const user = await system.newUser();
  const client = system.asUser(AuthService, user.accessToken);
  await client.requestPasswordReset(user);
  await client.resendVerification(user);
  const change = client.changeEmail({ newEmail: newAddress(), currentPassword: user.password });
  assert.equal((await refusal(change)).reason, "MAIL_DISABLED");
  const operator = system.asService(AuthInternalService, "operator", "auth");
  assert.equal((await refusal(operator.sendPasswordReset(user))).reason, "MAIL_DISABLED");
  const page = await sendHttp("1.1", system.internalUrl, { httpMethod: "GET", path: "/dev/mails", headers: [] });
  assert.equal(page.status, 401);
  assert.equal((await refusal(client.registerUser(user))).reason, "EMAIL_TAKEN");
});
