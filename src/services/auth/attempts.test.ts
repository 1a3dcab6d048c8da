/** Limits on wrong passwords: whom they stop, and whom they do not. Time is the database's; the tests move it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Sql } from "postgres";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { connect } from "../../db/connection.ts";
import { openDatabase, type Tx, transaction } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { sendHttp } from "../../testing/http.ts";
import { errorOf } from "../../testing/refusals.ts";
import { startTestService, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { createTokenKeys } from "../../token/key-making.ts";
import { attemptLimits, forgetAttempts } from "./attempts.ts";
import { forgetDevices } from "./devices.ts";
import { auth } from "./service.ts";

const MINUTE_MS = 60_000;
const PROXIED = { CONCIERGE_TRUSTED_PROXIES: "127.0.0.1", CONCIERGE_AUTH_ATTEMPTS_PER_ADDRESS: "2" };

/** Calls a public method as a client behind a trusted proxy, over Connect; answers the reason of its refusal. */
async function callFrom(url: string, address: string, method: string, message: object): Promise<string | undefined> {
  const answer = await sendHttp("1.1", url, {
    httpMethod: "POST",
    path: `/${AuthService.typeName}/${method}`,
    headers: [
      ["content-type", "application/json"],
      ["x-forwarded-for", address],
    ],
    body: Buffer.from(JSON.stringify(message)),
  });
  return JSON.parse(String(answer.body)).details?.[0]?.debug?.reason;
}

async function refusal(call: Promise<unknown>) {
  const error = await errorOf(call);
  const seconds = error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds;
  return { reason: reasonOf(error), message: error.rawMessage, retrySeconds: seconds && Number(seconds) };
}

describe("attempts", () => {
  let system: TestSystem;
  let owner: Sql;
  const tokenKeys = createTokenKeys();

  const login = (email: string, password: string, deviceToken = "") =>
    system.asUser(AuthService).login({ email, password, deviceToken });
  const wrong = async (email: string, deviceToken?: string) =>
    (await refusal(login(email, "not the password", deviceToken))).reason;
  /** One after the other. */
  const wrongTimes = async (count: number, email: string, deviceToken?: string) => {
    const reasons = [];
    for (let tries = 0; tries < count; tries++) reasons.push(await wrong(email, deviceToken));
    return reasons;
  };
  const times = (count: number, reason: string) => Array.from({ length: count }, () => reason);
  const auditOf = (userId: string, reason: string) =>
    owner`select 1 from audit_log where account_id = ${userId} and outcome = 'refused' and reason = ${reason}`;
  /** Somebody whose device is known. */
  const newUserWithDevice = async (): Promise<TestUser & { deviceToken: string }> => {
    const user = await system.newUser();
    return { ...user, deviceToken: (await login(user.email, user.password)).deviceToken };
  };

  before(async () => {
    system = await startTestService(auth, { variables: { CONCIERGE_AUTH_TOKEN_KEYS: JSON.stringify(tokenKeys) } });
    await system.server.ready;
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
  });

  after(async () => {
    await owner.end();
    await system[Symbol.asyncDispose]();
  });

  test("S-PWD-13 strangers' ten failures keep out unknown devices, and not the known one", async () => {
    const { email, password, deviceToken, userId } = await newUserWithDevice();
    assert.deepEqual(await wrongTimes(10, email), times(10, "BAD_CREDENTIALS"));
    const late = await refusal(login(email, password));
    assert.equal(late.reason, "TOO_MANY_ATTEMPTS");
    assert.ok(late.retrySeconds! > 50 && late.retrySeconds! <= 60, String(late.retrySeconds));
    const { deviceToken: next } = await login(email, password, deviceToken);
    assert.equal((await refusal(login(email, password, deviceToken))).reason, "TOO_MANY_ATTEMPTS", "it was used up");
    await login(email, password, next);
    assert.equal((await auditOf(userId, "bad_credentials")).length, 10);
  });

  test("S-PWD-13 an attempt comes back each minute, or in ten seconds for a known device", async () => {
    const { email, password, deviceToken } = await newUserWithDevice();
    assert.deepEqual(await wrongTimes(11, email), [...times(10, "BAD_CREDENTIALS"), "TOO_MANY_ATTEMPTS"]);
    assert.deepEqual(await wrongTimes(11, email, deviceToken), [...times(10, "BAD_CREDENTIALS"), "TOO_MANY_ATTEMPTS"]);
    await system.advance(11_000);
    assert.deepEqual(await wrongTimes(2, email, deviceToken), ["BAD_CREDENTIALS", "TOO_MANY_ATTEMPTS"]);
    assert.equal(await wrong(email), "TOO_MANY_ATTEMPTS");
    await system.advance(50_000);
    await login(email, password);
    assert.equal(await wrong(email), "BAD_CREDENTIALS", "the success has given its attempt back");
    assert.equal(await wrong(email), "TOO_MANY_ATTEMPTS");
  });

  test("S-PWD-13 after 100 failures in a row unknown devices wait for a success from the known one", async () => {
    const { email, password, deviceToken } = await newUserWithDevice();
    assert.deepEqual(await wrongTimes(9, email), times(9, "BAD_CREDENTIALS"));
    await owner`update attempt_buckets set failures = 99 where failures = 9`;
    assert.equal(await wrong(email), "BAD_CREDENTIALS");
    await system.advance(60 * MINUTE_MS);
    const late = await refusal(login(email, password));
    assert.equal(late.reason, "TOO_MANY_ATTEMPTS");
    assert.ok(late.retrySeconds! > 29 * 86_400, "they are remembered for 30 days");
    await login(email, password, deviceToken);
    await login(email, password);
  });

  test("S-PWD-14 of 100 wrong logins at once ten are evaluated", async () => {
    const { email, userId } = await system.newUser();
    const reasons = await Promise.all(Array.from({ length: 100 }, () => wrong(email)));
    assert.equal(reasons.filter((reason) => reason === "BAD_CREDENTIALS").length, 10);
    assert.equal(reasons.filter((reason) => reason === "TOO_MANY_ATTEMPTS").length, 90);
    assert.equal((await auditOf(userId, "bad_credentials")).length, 10);
    assert.equal((await auditOf(userId, "too_many_attempts")).length, 1, "no flood of rows");
  });

  test("S-PWD-11 an unknown account is limited with the same answer", async () => {
    const { email } = await system.newUser();
    const answers = [];
    for (const address of [email, "nobody@example.com"]) {
      assert.deepEqual(await wrongTimes(10, address), times(10, "BAD_CREDENTIALS"));
      const { retrySeconds, ...answer } = await refusal(login(address, "any"));
      assert.ok(retrySeconds! > 50 && retrySeconds! <= 60);
      answers.push(answer);
    }
    assert.deepEqual(answers[0], answers[1]);
    const stored = JSON.stringify(await owner`select encode(key, 'escape') from attempt_buckets`);
    assert.doesNotMatch(stored, /example|nobody/);
  });

  test("S-PWD-17 changing the password counts as a login from a known device", async () => {
    const { email, accessToken, password, deviceToken, userId } = await newUserWithDevice();
    const client = system.asUser(AuthService, accessToken);
    const change = (currentPassword: string) =>
      client.changePassword({ currentPassword, newPassword: "a new password" });
    for (let tries = 0; tries < 6; tries++) {
      assert.equal((await refusal(change("not the password"))).reason, "BAD_CREDENTIALS");
    }
    assert.deepEqual(await wrongTimes(4, email, deviceToken), times(4, "BAD_CREDENTIALS"));
    assert.equal((await refusal(change(password))).reason, "TOO_MANY_ATTEMPTS");
    assert.equal(await wrong(email, deviceToken), "TOO_MANY_ATTEMPTS");
    assert.equal((await auditOf(userId, "bad_credentials")).length, 10);
  });

  test("an unknown or foreign device token counts as none", async () => {
    const { email } = await newUserWithDevice();
    const foreign = await newUserWithDevice();
    assert.deepEqual(await wrongTimes(5, email, foreign.deviceToken), times(5, "BAD_CREDENTIALS"));
    assert.deepEqual(await wrongTimes(5, email, "made up"), times(5, "BAD_CREDENTIALS"));
    assert.equal(await wrong(email), "TOO_MANY_ATTEMPTS");
  });

  test("a device token ends after 180 days, and an account has no more than 20", async () => {
    const { email, password, deviceToken, userId } = await newUserWithDevice();
    await system.advance(179 * 86_400_000);
    const { deviceToken: next } = await login(email, password, deviceToken);
    await system.advance(181 * 86_400_000);
    await wrongTimes(10, email);
    assert.equal((await refusal(login(email, password, next))).reason, "TOO_MANY_ATTEMPTS");
    await system.advance(10 * MINUTE_MS);
    const tokens: string[] = [];
    for (let logins = 0; logins < 21; logins++) tokens.push((await login(email, password)).deviceToken);
    assert.equal((await owner`select 1 from device_tokens where account_id = ${userId}`).length, 20);
    await wrongTimes(10, email);
    assert.equal((await refusal(login(email, password, tokens[0]))).reason, "TOO_MANY_ATTEMPTS", "the oldest is gone");
    await login(email, password, tokens[1]);
  });

  test("a new password by mail forgets the failures and the devices", async () => {
    const { email, password, deviceToken, userId } = await newUserWithDevice();
    await wrongTimes(10, email);
    const url = system.database("auth").runtimeUrl;
    await using database = openDatabase({ url, poolSize: 1, applicationName: "reset" });
    const reset = (forget: (tx: Tx) => Promise<void>) => transaction(database.db, forget);
    const attempts = attemptLimits(tokenKeys, { perAccount: 10, perAddress: 0 });
    await reset((tx) => forgetAttempts(tx, { attempts }, email));
    assert.equal(await wrong(email), "BAD_CREDENTIALS");
    await login(email, password);
    await wrongTimes(9, email);
    await reset((tx) => forgetDevices(tx, userId));
    assert.equal((await refusal(login(email, password, deviceToken))).reason, "TOO_MANY_ATTEMPTS");
  });

  test("S-PWD-18 one address tries passwords of many accounts no longer than its limit, and its network ten times that", async () => {
    await using replica = await system.startReplica(PROXIED);
    await replica.ready;
    /** At once, each with an account of its own; answers how many were evaluated. */
    const attempts = async (addresses: string[]) => {
      const calls = addresses.map((address) => {
        const email = `${crypto.randomUUID()}@example.com`;
        const login = () => callFrom(replica.publicUrl, address, "Login", { email, password: "guess" });
        // What a slow machine does not come to is no attempt.
        return until("an answer", async () => {
          const reason = await login();
          return reason !== "TOO_MANY_HASHES" && reason;
        });
      });
      const reasons = await Promise.all(calls);
      const evaluated = reasons.filter((reason) => reason === "BAD_CREDENTIALS").length;
      assert.equal(reasons.filter((reason) => reason === "TOO_MANY_ATTEMPTS").length, addresses.length - evaluated);
      return evaluated;
    };
    assert.equal(await attempts(["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"]), 2);
    const neighbours = Array.from({ length: 40 }, (_, index) => `192.0.2.${10 + index}`);
    const ofNetwork = await attempts(neighbours);
    assert.ok(ofNetwork >= 18 && ofNetwork < 40, `${ofNetwork} of 40: 20, less what was used, and five each second`);
    assert.equal(await attempts(["198.51.100.1"]), 1);
    assert.equal(await attempts(["2001:db8:1:1::1", "2001:db8:1:1::2", "2001:db8:1:1:f::f"]), 2, "one /64");
    assert.equal(await attempts(["2001:db8:1:2::1"]), 1);
  });

  test("a new password, an end of all sessions and a disabled account forget the devices", async () => {
    const operator = system.asService(AuthInternalService, "operator", "auth");
    const newPassword = `new-${crypto.randomUUID()}`;
    const acts: Record<string, (user: TestUser) => Promise<unknown>> = {
      changed: ({ accessToken, password }) =>
        system.asUser(AuthService, accessToken).changePassword({ currentPassword: password, newPassword }),
      ended: ({ userId }) => operator.endUserSessions({ userId }),
      disabled: ({ userId }) => operator.disableAccount({ userId }),
    };
    for (const [what, act] of Object.entries(acts)) {
      const user = await newUserWithDevice();
      await act(user);
      const devices = await owner`select token_hash from device_tokens where account_id = ${user.userId}`;
      assert.equal(devices.length, what === "changed" ? 1 : 0, what);
      // What counts is the bucket of the strangers, who have used it up.
      await wrongTimes(10, user.email);
      assert.equal(await wrong(user.email, user.deviceToken), "TOO_MANY_ATTEMPTS", what);
    }
  });

  test("a right password of a disabled account is counted like a wrong one", async () => {
    const { email, password, userId } = await system.newUser();
    await system.asService(AuthInternalService, "operator", "auth").disableAccount({ userId });
    const reasons = [];
    for (let tries = 0; tries < 11; tries++) reasons.push((await refusal(login(email, password))).reason);
    assert.deepEqual(reasons, [...times(10, "BAD_CREDENTIALS"), "TOO_MANY_ATTEMPTS"]);
  });

  test("what an address may not try takes nothing from the account", async () => {
    await using replica = await system.startReplica(PROXIED);
    await replica.ready;
    const email = "spared@example.com";
    const attempt = () => callFrom(replica.publicUrl, "203.0.113.1", "Login", { email, password: "guess" });
    const reasons = await Promise.all(Array.from({ length: 22 }, attempt));
    assert.equal(reasons.filter((reason) => reason === "BAD_CREDENTIALS").length, 2);
    assert.deepEqual(await wrongTimes(9, email), [...times(8, "BAD_CREDENTIALS"), "TOO_MANY_ATTEMPTS"]);
  });

  test("one address registers 20 accounts, then one in 30 seconds", async () => {
    await using replica = await system.startReplica(PROXIED);
    await replica.ready;
    const register = (address: string, method = "RegisterUser") => {
      const details = { email: `${crypto.randomUUID()}@example.com`, password: "a fine password" };
      const stageName = method === "RegisterArtist" ? { stageName: "Ann" } : {};
      return callFrom(replica.publicUrl, address, method, { ...details, ...stageName });
    };
    for (let count = 0; count < 20; count++) assert.equal(await register("203.0.113.9"), undefined);
    assert.equal(await register("203.0.113.9"), "TOO_MANY_ATTEMPTS");
    assert.equal(await register("203.0.113.9", "RegisterArtist"), "TOO_MANY_ATTEMPTS");
    assert.equal(await register("203.0.113.10"), undefined);
    await system.advance(31_000);
    assert.equal(await register("203.0.113.9"), undefined);
  });
});
