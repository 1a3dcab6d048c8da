/** Passwords, from the text typed to the hash stored. */
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { after, afterEach, before, describe, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import type { Sql } from "postgres";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { connect } from "../../db/connection.ts";
import { Code, reasonOf } from "../../errors.ts";
import { lockWaits } from "../../testing/lock-waits.ts";
import { areHashesHeld, argon2Calls as hashes, holdHashes, holdHashesUntil } from "../../testing/native-hashes.ts";
import { errorOf } from "../../testing/refusals.ts";
import type { TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import type { PasswordOptions } from "./passwords.ts";

// Only now, as native-hashes.ts wants it.
const argon2 = await import("argon2");
const { createPasswords } = await import("./passwords.ts");
const { startTestService } = await import("../../testing/system.ts");
const { auth } = await import("./service.ts");

const WIDTH = availableParallelism();
const never = new AbortController().signal;
const silent = { error: () => assert.fail("nothing is to be logged") };

afterEach(() => {
  assert.ok(!areHashesHeld(), "a test left hashes held");
});

async function refusal(call: Promise<unknown>) {
  const error = await errorOf(call);
  return { code: error.code, reason: reasonOf(error), message: error.rawMessage, error };
}

const BAD_CREDENTIALS = {
  code: Code.Unauthenticated,
  reason: "BAD_CREDENTIALS",
  message: "e-mail or password is wrong",
};

/** Judges nothing but common passwords, unless told otherwise. */
const open = (options: Partial<PasswordOptions> = {}) =>
  createPasswords({ minLength: 8, minScore: 0, blockedWords: [], queueLength: 8, log: silent, ...options });

describe("the hash pool", () => {
  test(`runs ${WIDTH} at a time, lets some wait, and tells the rest to come back`, async () => {
    await using passwords = await open({ queueLength: 2 });
    const release = holdHashes();
    hashes.length = 0;
    const accepted = Array.from({ length: WIDTH + 2 }, () => passwords.rehash("a fine password", never));
    await until("the pool is full", () => hashes.length === WIDTH);
    assert.equal(passwords.queueLength(), 2);
    for (const more of [passwords.rehash("a fine password", never), passwords.verify(undefined, "any", never)]) {
      const { code, reason, error } = await refusal(more);
      assert.deepEqual([code, reason], [Code.ResourceExhausted, "TOO_MANY_HASHES"]);
      assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n);
    }
    assert.equal(hashes.length, WIDTH);
    release();
    assert.equal(new Set(await Promise.all(accepted)).size, WIDTH + 2);
    assert.equal(hashes.length, WIDTH + 2);
    assert.equal(passwords.queueLength(), 0);
  });

  test("a call that ends early leaves the queue to another, and is not hashed", async () => {
    await using passwords = await open({ queueLength: 1 });
    const release = holdHashes();
    hashes.length = 0;
    const running = Array.from({ length: WIDTH }, () => passwords.rehash("a fine password", never));
    await until("the pool is full", () => hashes.length === WIDTH);
    const caller = new AbortController();
    const gone = refusal(passwords.rehash("of one who leaves", caller.signal));
    caller.abort(new ConnectError("gone", Code.Canceled));
    assert.equal((await gone).code, Code.Canceled);
    const next = passwords.rehash("of the next", never);
    assert.equal((await refusal(passwords.rehash("one too many", never))).reason, "TOO_MANY_HASHES");
    release();
    await Promise.all([...running, next]);
    assert.deepEqual(
      hashes.map(({ password }) => String(password)).filter((text) => text !== "a fine password"),
      ["of the next"],
    );
    await assert.rejects(passwords.rehash("a fine password", AbortSignal.abort(new Error("gone"))), /gone/);
    assert.equal(hashes.length, WIDTH + 1);
  });

  test("a hash that fails frees its place", async () => {
    await using passwords = await open({ queueLength: 1 });
    holdHashesUntil(Promise.reject(new Error("no memory")));
    for (let round = 0; round < WIDTH * 3; round++) {
      await assert.rejects(passwords.verify(undefined, "a fine password", never), /no memory/);
    }
    holdHashesUntil(undefined);
    assert.ok(await passwords.rehash("a fine password", never));
  });
});

test("S-PWD-01 a password has at least the configured number of code points, which the error names", async () => {
  await using passwords = await open({ minLength: 15 });
  hashes.length = 0;
  for (const short of ["x".repeat(14), "😀".repeat(14), "e\u0301".repeat(14), ""]) {
    const { code, reason, message } = await refusal(passwords.hash(short, [], never));
    assert.deepEqual([code, reason], [Code.InvalidArgument, "PASSWORD_TOO_SHORT"]);
    assert.equal(message, "the password must have at least 15 characters");
  }
  assert.equal(hashes.length, 0);
  for (const fine of ["x".repeat(15), "😀".repeat(15), "e\u0301".repeat(15), "x".repeat(64), "x".repeat(128)]) {
    const hash = await passwords.hash(fine, [], never);
    assert.ok(await passwords.verify(hash, fine, never));
  }
});

test("S-PWD-02 1,024 bytes are hashed and 1,025 are not; 1 MiB costs less than a millisecond", async () => {
  await using passwords = await open();
  const hash = await passwords.hash("é".repeat(512), [], never);
  assert.ok(await passwords.verify(hash, "é".repeat(512), never));
  hashes.length = 0;
  for (const long of [`${"é".repeat(512)}x`, "x".repeat(1024 * 1024)]) {
    const { reason } = await refusal(passwords.hash(long, [], never));
    assert.equal(reason, "PASSWORD_TOO_LONG");
  }
  const mebibyte = "e\u0301".repeat(350_000);
  const cpu = process.threadCpuUsage();
  for (let round = 0; round < 10; round++) await refusal(passwords.hash(mebibyte, [], never));
  const { user, system } = process.threadCpuUsage(cpu);
  assert.ok(user + system < 10_000, `${user + system} µs`);
  assert.equal(hashes.length, 0);
});

test("S-PWD-08 argon2id, 19 MiB, two passes, one lane, and a salt of 16 bytes for each", async () => {
  await using passwords = await open();
  const made = await Promise.all([1, 2, 3].map(() => passwords.hash("a fine password", [], never)));
  for (const hash of made) {
    assert.match(hash, /^\$argon2id\$v=19\$m=19456,p=1,t=2\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    assert.equal(passwords.isOutdated(hash), false);
  }
  assert.equal(new Set(made.map((hash) => hash.split("$")[4])).size, 3);
  for (const weaker of [{ memoryCost: 8_192 }, { memoryCost: 19_455 }]) {
    const hash = await argon2.hash("a fine password", { timeCost: 2, parallelism: 1, ...weaker });
    assert.equal(passwords.isOutdated(hash), true);
  }
});

test("S-PWD-05 another case, a space less, a ligature undone, a NUL more, byte 73 changed: another password", async () => {
  await using passwords = await open({ queueLength: 64 });
  const pairs: [password: string, others: string[]][] = [
    ["Correct Horse", ["correct Horse", "Correct Horse ", "Correct  Horse"]],
    [" with spaces ", ["with spaces", " with spaces", "with spaces "]],
    ["ﬁne password", ["fine password"]],
    ["fine password", ["ﬁne password", "ｆine password", "fine password\0", "fine\0 password", "fine passwor"]],
    [`${"x".repeat(72)}y tail`, [`${"x".repeat(72)}z tail`, "x".repeat(72), `${"x".repeat(72)}y`]],
  ];
  const checks = pairs.map(async ([password, others]) => {
    const hash = await passwords.hash(password, [], never);
    assert.ok(await passwords.verify(hash, password, never));
    for (const other of others)
      assert.equal(await passwords.verify(hash, other, never), false, `${password} / ${other}`);
  });
  await Promise.all(checks);
});

describe("passwords at the door", () => {
  let system: TestSystem;
  let owner: Sql;
  const login = (email: string, password: string) => system.asUser(AuthService).login({ email, password });
  const sessionsOf = async (userId: string) =>
    Number((await owner`select count(*) from sessions where account_id = ${userId}`)[0]!.count);
  const storedHash = async (userId: string): Promise<string> =>
    (await owner`select password_hash from credentials where account_id = ${userId}`)[0]!.password_hash;
  const setHash = (userId: string, hash: string, versions: number) =>
    owner`update credentials set password_hash = ${hash}, version = version + ${versions} where account_id = ${userId}`;

  before(async () => {
    system = await startTestService(auth);
    await system.server.ready;
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner", max: 2 });
  });

  after(async () => {
    await owner.end();
    await system[Symbol.asyncDispose]();
  });

  test("S-PWD-04 a password logs in whether it is typed composed or decomposed", async () => {
    for (const form of ["NFC", "NFD"] as const) {
      const user = await system.newUser({ password: "Zoë Åström 한국".normalize(form) });
      for (const typed of ["NFC", "NFD"] as const) {
        assert.equal((await login(user.email, user.password.normalize(typed))).userId, user.userId);
      }
    }
  });

  test("S-PWD-05 a password that is nearly right starts no session", async () => {
    const user = await system.newUser({ password: "Fine Password" });
    const { code, reason, message } = await refusal(login(user.email, "fine Password"));
    assert.deepEqual({ code, reason, message }, BAD_CREDENTIALS);
    assert.equal((await refusal(login(user.email, "Fine Password\0"))).reason, "INVALID_REQUEST");
    assert.equal(await sessionsOf(user.userId), 1, "the one of newUser() only");
  });

  test("S-PWD-08 a weaker hash is made anew at the next login, and a wrong password changes nothing", async () => {
    const user = await system.newUser();
    const weak = await argon2.hash(user.password, { memoryCost: 8_192, timeCost: 2, parallelism: 1 });
    await setHash(user.userId, weak, 0);
    await refusal(login(user.email, "not the password"));
    assert.equal(await storedHash(user.userId), weak);
    await login(user.email, user.password);
    const renewed = await storedHash(user.userId);
    assert.match(renewed, /\$m=19456,p=1,t=2\$/);
    await login(user.email, user.password);
    assert.equal(await storedHash(user.userId), renewed, "and only once");
  });

  test("S-PWD-08 logins at once with a weaker hash all succeed: none waits for the other's lock", async () => {
    const user = await system.newUser();
    await setHash(user.userId, await argon2.hash(user.password, { memoryCost: 8_192, timeCost: 2, parallelism: 1 }), 0);
    await Promise.all(Array.from({ length: 8 }, () => login(user.email, user.password)));
    assert.match(await storedHash(user.userId), /\$m=19456,p=1,t=2\$/);
  });

  test("S-PWD-08 S-REF-23 a rehash that ends after the password was changed leaves the new one", async () => {
    const user = await system.newUser();
    await setHash(user.userId, await argon2.hash(user.password, { memoryCost: 8_192, timeCost: 2, parallelism: 1 }), 0);
    const changed = await argon2.hash("the new password", { memoryCost: 19_456, timeCost: 2, parallelism: 1 });
    hashes.length = 0;
    const releaseFirst = holdHashes();
    const late = refusal(login(user.email, user.password));
    await until("the old password is being verified", () => hashes.length === 1);
    releaseFirst();
    const release = holdHashes();
    await until("the new hash is being made", () => hashes.length === 2);
    await setHash(user.userId, changed, 1);
    release();
    const { code, reason, message } = await late;
    assert.deepEqual({ code, reason, message }, BAD_CREDENTIALS);
    assert.equal(await storedHash(user.userId), changed);
    assert.equal(await sessionsOf(user.userId), 1);
  });

  test("S-REF-20 a login in flight while the password is changed starts no session", async () => {
    const user = await system.newUser();
    hashes.length = 0;
    const release = holdHashes();
    const late = refusal(login(user.email, user.password));
    await until("the password is being checked", () => hashes.length === 1);
    await setHash(user.userId, await storedHash(user.userId), 1);
    release();
    const { code, reason, message } = await late;
    assert.deepEqual({ code, reason, message }, BAD_CREDENTIALS);
    assert.equal(await sessionsOf(user.userId), 1);
  });

  test("S-REF-20 a login that meets the change's open transaction waits for it, and starts no session", async () => {
    const user = await system.newUser();
    const changed = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const change = owner.begin(async (tx) => {
      await tx`update credentials set version = version + 1 where account_id = ${user.userId}`;
      locked.resolve();
      await changed.promise;
    });
    await locked.promise;
    const late = refusal(login(user.email, user.password));
    await until("the login waits for the lock", async () => (await lockWaits(owner)) === 1);
    changed.resolve();
    await change;
    assert.equal((await late).reason, "BAD_CREDENTIALS");
    assert.equal(await sessionsOf(user.userId), 1);
  });

  test("S-PWD-11 an unknown account costs one hash of the same parameters, and gets the same answer", async () => {
    const { email } = await system.newUser();
    const answers = [];
    for (const address of [email, "nobody@example.com"]) {
      hashes.length = 0;
      const { code, reason, message } = await refusal(login(address, "not the password"));
      answers.push({ code, reason, message });
      const cost = hashes.map(({ m, t, p, hashLength, salt }) => ({ m, t, p, hashLength, saltBytes: salt.length }));
      assert.deepEqual(cost, [{ m: 19_456, t: 2, p: 1, hashLength: 32, saltBytes: 16 }], address);
    }
    assert.deepEqual(answers, [BAD_CREDENTIALS, BAD_CREDENTIALS]);
  });

  test("S-PWD-02 1,025 bytes are refused at the door, before any hash", async () => {
    const { email } = await system.newUser();
    hashes.length = 0;
    const password = "x".repeat(1_025);
    assert.equal((await refusal(login(email, password))).reason, "INVALID_REQUEST");
    const register = system.asUser(AuthService).registerUser({ email: "long@example.com", password });
    assert.equal((await refusal(register)).reason, "INVALID_REQUEST");
    assert.equal(hashes.length, 0);
  });

  test("S-PWD-03 more logins at once than the queue holds are told to come back, with a time", async () => {
    const replica = await system.startReplica({ CONCIERGE_AUTH_HASH_QUEUE_LENGTH: "1" });
    await using _ = replica;
    await replica.ready;
    const { createConnectTransport } = await import("@connectrpc/connect-node");
    const { createClient } = await import("@connectrpc/connect");
    const client = createClient(
      AuthService,
      createConnectTransport({ baseUrl: replica.publicUrl, httpVersion: "1.1" }),
    );
    hashes.length = 0;
    const release = holdHashes();
    const wrong = { email: "nobody@example.com", password: "wrong" };
    const calls = Array.from({ length: WIDTH + 5 }, () => refusal(client.login(wrong)));
    const settled: Awaited<(typeof calls)[number]>[] = [];
    for (const call of calls) call.then((answer) => settled.push(answer));
    await until("all but one are refused", () => settled.length === 4);
    for (const { code, reason, error } of settled) {
      assert.deepEqual([code, reason], [Code.ResourceExhausted, "TOO_MANY_HASHES"]);
      assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n);
    }
    assert.equal(hashes.length, WIDTH);
    release();
    const reasons = (await Promise.all(calls)).map(({ reason }) => reason);
    assert.equal(reasons.filter((reason) => reason === "BAD_CREDENTIALS").length, WIDTH + 1);
  });

  test("S-PWD-01 the least length follows the mode, and can be set", async () => {
    for (const [variables, least] of [
      [{}, 8],
      [{ CONCIERGE_MODE: "demo" }, 15],
      [{ CONCIERGE_AUTH_PASSWORD_MIN_LENGTH: "20" }, 20],
    ] as const) {
      await using replica = await system.startReplica(variables);
      await replica.ready;
      const { sendHttp } = await import("../../testing/http.ts");
      const register = async (length: number) => {
        const answer = await sendHttp("1.1", replica.publicUrl, {
          httpMethod: "POST",
          path: `/${AuthService.typeName}/RegisterUser`,
          headers: [["content-type", "application/json"]],
          body: Buffer.from(
            JSON.stringify({
              email: `${crypto.randomUUID()}@example.com`,
              password: "Tq7-Wz3 Lk9+Vb2.Xm5!".slice(0, length),
            }),
          ),
        });
        return { status: answer.status, ...JSON.parse(String(answer.body)) };
      };
      const { status, message } = await register(least - 1);
      assert.deepEqual([status, message], [400, `the password must have at least ${least} characters`]);
      assert.equal((await register(least)).status, 200);
    }
  });
});
