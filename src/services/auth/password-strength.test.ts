/** New passwords that are easy to guess, and the thread that finds out. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { reasonOf } from "../../errors.ts";
import { startTestService, type TestSystem } from "../../testing/system.ts";
import { PasswordJudge } from "./password-strength.ts";
import { auth } from "./service.ts";

const never = new AbortController().signal;
const ANN = ["ann.norwood@mail.example.com", "Ann", "Norwood", "The Nightjars"];

/** "" for a password that is accepted. */
async function reasonAgainst(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => ConnectError.from(thrown),
  );
  if (!error) return "";
  const isQueueFull = reasonOf(error) === "TOO_MANY_HASHES";
  assert.equal(error.code, isQueueFull ? Code.ResourceExhausted : Code.InvalidArgument, error.message);
  return reasonOf(error)!;
}

describe("a judge of passwords", () => {
  let judge: PasswordJudge;
  const judged = (password: string) => reasonAgainst(judge.require(password, ANN, never));

  before(() => {
    judge = new PasswordJudge({ minScore: 3, blockedWords: ["Acme Rockets"], queueLength: 8 });
  });

  after(() => judge[Symbol.asyncDispose]());

  for (const [what, password] of [
    ["one of the first that are tried", "iloveyou"],
    ["the same in capitals", "IloveYOU"],
    ["a long one of them", "123456789987654321"],
    ["the product's name", "Concierge"],
    ["a blocked word", "rockets"],
    ["blocked words, twice", "Acme-Rockets acme rockets"],
    ["the person's address", "ann.norwood@mail.example.com"],
    ["the person's names", "AnnNorwood Ann Norwood"],
    ["an artist's name", "the nightjars!"],
  ] as const) {
    test(`S-PWD-09 ${what} is PASSWORD_COMPROMISED`, async () => {
      assert.equal(await judged(password), "PASSWORD_COMPROMISED");
    });
  }

  for (const [what, password] of [
    ["one character", "xxxxxxxxxxxxxxxxxxxx"],
    ["a row of keys", "qwertyuiopasdfghjkl"],
    ["counting", "12345678901234567890123"],
    ["a common password with signs for letters and a year", "P4$$w0rd!2024"],
    ["one word again and again", "dragon dragon dragon dragon"],
    ["the product's name with a year", "Concierge2024!!"],
    ["the person's names with a year", "AnnNorwood-1990!"],
    ["what is strong only after 64 characters", `${"x".repeat(64)}Tq7-Wz3 Lk9+Vb2.Xm5!`],
  ] as const) {
    test(`S-PWD-09 ${what} is PASSWORD_TOO_WEAK`, async () => {
      assert.equal(await judged(password), "PASSWORD_TOO_WEAK");
    });
  }

  for (const password of [
    "correct horse battery staple",
    "ann prefers purple typewriters",
    "83520916640287153379",
    "ZQXWVKJHPLMNTRGB",
    "Zoë Åström 한국 bøker",
    `pass-${crypto.randomUUID()}`,
  ]) {
    test(`S-PWD-10 no kind of character is asked for: "${password.slice(0, 30)}" is accepted`, async () => {
      assert.equal(await judged(password), "");
    });
  }
});

test("a judge with a full queue says so, and whoever stops waiting makes room", async () => {
  await using judge = new PasswordJudge({ minScore: 3, blockedWords: [], queueLength: 1 });
  const caller = new AbortController();
  const running = reasonAgainst(judge.require("iloveyou", [], never));
  const waiting = judge.require("iloveyou", [], caller.signal);
  assert.equal(judge.queueLength(), 1);
  assert.equal(await reasonAgainst(judge.require("iloveyou", [], never)), "TOO_MANY_HASHES");
  caller.abort(new Error("gone"));
  await assert.rejects(waiting, /gone/);
  const next = reasonAgainst(judge.require("xxxxxxxxxxxxxxxxxxxx", [], never));
  assert.deepEqual(await Promise.all([running, next]), ["PASSWORD_COMPROMISED", "PASSWORD_TOO_WEAK"]);
});

test("a judge that is disposed, again and while it works, leaves nobody waiting", async () => {
  const judge = new PasswordJudge({ minScore: 3, blockedWords: [], queueLength: 1 });
  await reasonAgainst(judge.require("iloveyou", [], never));
  const long = crypto.randomUUID().repeat(2); // so that it is not judged before the end
  const running = assert.rejects(judge.require(long, [], never), /has ended/);
  const waiting = assert.rejects(judge.require("iloveyou", [], never), /not judged any more/);
  await Promise.resolve(); // so that the first one is under way
  await judge[Symbol.asyncDispose]();
  await Promise.all([running, waiting]);
  await judge[Symbol.asyncDispose]();
});

describe("new passwords at the door", () => {
  let system: TestSystem;
  const register = (password: string, names = {}) => {
    const email = `${crypto.randomUUID()}@example.com`;
    return reasonAgainst(system.asUser(AuthService).registerUser({ email, password, ...names }));
  };

  before(async () => {
    system = await startTestService(auth, { variables: { CONCIERGE_AUTH_PASSWORD_BLOCKED_WORDS: "acme,rockets" } });
    await system.server.ready;
  });

  after(() => system[Symbol.asyncDispose]());

  test("S-PWD-09 what is refused depends on who registers, and on the installation", async () => {
    assert.equal(await register("football"), "PASSWORD_COMPROMISED");
    assert.equal(await register("acme rockets"), "PASSWORD_COMPROMISED");
    assert.equal(await register("xxxxxxxxxxxxxxx"), "PASSWORD_TOO_WEAK");
    assert.equal(await register("Wolfeschlegel", { lastName: "Wolfeschlegel" }), "PASSWORD_COMPROMISED");
    assert.equal(await register("Wolfeschlegel"), "");
    const artist = { email: "nightjars@example.com", password: "Xylonightjarophone", stageName: "Xylonightjarophone" };
    assert.equal(await reasonAgainst(system.asUser(AuthService).registerArtist(artist)), "PASSWORD_COMPROMISED");
  });

  test("S-PWD-09 a changed password is judged like a new one, and the current one stays", async () => {
    const user = await system.newUser({ lastName: "Wolfeschlegel" });
    const change = (newPassword: string) => {
      const client = system.asUser(AuthService, user.accessToken);
      return reasonAgainst(client.changePassword({ currentPassword: user.password, newPassword }));
    };
    assert.equal(await change("football"), "PASSWORD_COMPROMISED");
    assert.equal(await change("wolfeschlegel"), "PASSWORD_COMPROMISED");
    assert.equal(await change("xxxxxxxxxxxxxxx"), "PASSWORD_TOO_WEAK");
    await system.asUser(AuthService).login(user);
    assert.equal(await change("correct horse battery staple"), "");
  });

  test("S-PWD-10 no rotation: a password of years ago still logs in", async () => {
    const user = await system.newUser();
    await system.advance(3 * 365 * 86_400_000);
    assert.equal((await system.asUser(AuthService).login(user)).userId, user.userId);
  });

  test("the score that is asked for follows the mode", async () => {
    const person = { email: "mode@example.com", password: "P4ssw0rd!2345678" };
    await using replica = await system.startReplica({ CONCIERGE_MODE: "demo" });
    await replica.ready;
    const transport = createConnectTransport({ baseUrl: replica.publicUrl, httpVersion: "1.1" });
    const strict = createClient(AuthService, transport);
    assert.equal(await reasonAgainst(strict.registerUser(person)), "PASSWORD_TOO_WEAK");
    assert.equal(await reasonAgainst(system.asUser(AuthService).registerUser(person)), "");
  });
});
