/** What lost answers, dead processes, other processes and other servers do to a person's session. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code } from "../errors.ts";
import type { TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { fileStore } from "./file-store.ts";
import { createSession } from "./node-session.ts";
import { memoryStore, type SessionStore } from "./session-store.ts";
import {
  claimsOf,
  GREETING,
  greet,
  isSignedOut,
  isUnavailable,
  newFolder,
  refusalOf,
  type Sessions,
  startSessions,
  TOKEN_MS,
} from "./session-testing.ts";

describe("a session goes on", () => {
  let sessions: Sessions;
  let system: TestSystem;

  before(async () => {
    sessions = await startSessions();
    ({ system } = sessions);
  });
  after(() => sessions[Symbol.asyncDispose]());

  test("a refresh whose answer is lost is repeated with the same key, and the session goes on", async () => {
    await using proxy = await sessions.proxy();
    await using session = await sessions.signIn({ url: proxy.url });
    const { sid } = await claimsOf(session);
    await system.advance(TOKEN_MS + 1);
    proxy.latency(1_000);
    const answer = greet(session);
    await until("the refresh at auth", async () => (await sessions.usedTokens(sid)) === 1);
    proxy.cut();
    await proxy.heal();
    assert.equal(await answer, GREETING);
    await system.advance(TOKEN_MS + 1);
    assert.equal(await greet(session), GREETING);
    assert.equal(await sessions.usedTokens(sid), 2);
  });

  test("a process that died before the answer of its refresh is followed by one that repeats it", async () => {
    const store = memoryStore();
    await using first = await sessions.signIn({ store });
    const { sid } = await claimsOf(first);
    const before = await store.read();
    await system.advance(TOKEN_MS + 1);
    assert.equal(await greet(first), GREETING);
    await store.write(before); // what the first one would have left
    await using second = await sessions.open({ store });
    assert.equal(second.userId, first.userId);
    assert.equal(await greet(second), GREETING);
    assert.equal(await sessions.usedTokens(sid), 1);
    await system.advance(TOKEN_MS + 1);
    assert.equal(await greet(second), GREETING);
  });

  test("S-REF-24 two sessions over one store that give no turns refresh at once with one key: one family, both live", async () => {
    const shared = memoryStore();
    const store: SessionStore = { ...shared, exclusively: (work) => work() };
    await using first = await sessions.signIn({ store });
    const { sid } = await claimsOf(first);
    await using second = await sessions.open({ store });
    for (const round of [1, 2, 3]) {
      await system.advance(TOKEN_MS + 1);
      assert.deepEqual(await Promise.all([greet(first), greet(second)]), [GREETING, GREETING]);
      assert.equal(await sessions.usedTokens(sid), round);
    }
  });

  test("S-REF-24 two sessions over one file refresh once for both: one family, both live", async () => {
    await using folder = await newFolder();
    const path = join(folder.path, "concierge", "session.json");
    await using first = await sessions.signIn({ store: fileStore(path) });
    const { sid } = await claimsOf(first);
    await using second = await sessions.open({ store: fileStore(path) });
    assert.equal(second.state, "signed-in");
    const before = sessions.refreshCalls();
    for (const round of [1, 2, 3]) {
      await system.advance(TOKEN_MS + 1);
      const calls = [first, second, first, second].map(greet);
      assert.deepEqual(new Set(await Promise.all(calls)), new Set([GREETING]));
      assert.deepEqual([await sessions.usedTokens(sid), sessions.refreshCalls() - before], [round, round]);
    }
    assert.equal(await first.accessToken(), await second.accessToken(), "the one that waited took the other one's");
  });

  test("a session that was ended elsewhere is signed out at its next call, and keeps by what the device is known", async () => {
    const store = memoryStore();
    const signedOut: string[] = [];
    await using session = await sessions.signIn({ store, onSignedOut: () => void signedOut.push("signed out") });
    const { deviceToken } = await store.read();
    await system.asService(AuthInternalService, "operator", "auth").endUserSessions({ userId: session.userId });
    assert.ok(isSignedOut(await refusalOf(session)));
    assert.deepEqual([session.state, session.userId, signedOut], ["signed-out", undefined, ["signed out"]]);
    assert.deepEqual(await store.read(), { deviceToken, session: undefined });
    assert.ok(deviceToken);
    await assert.rejects(session.accessToken(), isSignedOut);
  });

  test("who logs out in one process is signed out in another one that shares the file", async () => {
    await using folder = await newFolder();
    const path = join(folder.path, "session.json");
    await using first = await sessions.signIn({ store: fileStore(path) });
    await using second = await sessions.open({ store: fileStore(path) });
    assert.deepEqual(await first.logout(), { isEnded: true });
    assert.ok(isSignedOut(await refusalOf(second)));
    assert.equal(second.state, "signed-out");
    assert.ok((await fileStore(path).read()).deviceToken);
  });

  test("while auth is away calls fail as UNAVAILABLE once the token has expired, and the session goes on after that", async () => {
    await using proxy = await sessions.proxy();
    await using session = await sessions.signIn({ url: proxy.url });
    const token = await session.accessToken();
    proxy.cut();
    await system.advance(TOKEN_MS * 0.95);
    assert.equal(await session.accessToken(), token, "a refresh ahead of time that fails is no fault of the call");
    await system.advance(TOKEN_MS);
    await assert.rejects(greet(session), isUnavailable);
    assert.equal(session.state, "signed-in");
    await proxy.heal();
    assert.equal(await greet(session), GREETING);
  });

  test("a call waits for its access token no longer than for its answer", async () => {
    await using proxy = await sessions.proxy();
    await using session = await sessions.signIn({ url: proxy.url });
    await system.advance(TOKEN_MS + 1);
    proxy.hang();
    const greeter = session.service(GreeterService);
    const leaving = AbortSignal.timeout(100);
    const calls = [greeter.sayHello({}, { timeoutMs: 100 }), greeter.sayHello({}, { signal: leaving })];
    const ends = await Promise.allSettled(calls);
    assert.deepEqual(
      ends.map((end) => end.status === "rejected" && end.reason.code),
      [Code.DeadlineExceeded, Code.Canceled],
    );
    await proxy.heal();
    assert.equal(await greet(session), GREETING);
  });

  test("whatever answers 401 in place of auth signs nobody out", async () => {
    await using portal = await answerEverything(401, "<h1>Please log in to this network</h1>");
    const store = memoryStore();
    await using stored = await sessions.signIn({ store });
    await using captured = await createSession({
      transport: createConnectTransport({ baseUrl: portal.url, httpVersion: "1.1" }),
      clock: system.clock,
      store,
    });
    await system.advance(TOKEN_MS + 1);
    await assert.rejects(captured.accessToken(), isUnavailable);
    assert.equal(captured.state, "signed-in");
    assert.equal(await greet(stored), GREETING);
  });

  test("a call of one person is not made as another who has signed in meanwhile", async () => {
    const store = memoryStore();
    await using first = await sessions.signIn({ store });
    const { userId } = first;
    await using second = await sessions.open({ store });
    await second.login(await system.newUser());
    await system.advance(TOKEN_MS + 1);
    await assert.rejects(greet(first), isSignedOut);
    assert.equal(first.userId, second.userId);
    assert.notEqual(first.userId, userId);
    assert.equal(await greet(first), GREETING);
  });

  for (const next of ["nobody", "somebody else"]) {
    test(`a new password that waited for its turn brings nobody back where ${next} is signed in by then`, async () => {
      const store = memoryStore();
      const user = await system.newUser();
      await using first = await sessions.open({ store });
      await first.login(user);
      await using second = await sessions.open({ store });
      const left = next === "nobody" ? second.logout() : second.login(await system.newUser());
      const passwords = { currentPassword: user.password, newPassword: `pass-${crypto.randomUUID()}` };
      const changed = first.changePassword(passwords);
      await assert.rejects(changed, isSignedOut);
      await left;
      assert.equal(first.userId, second.userId);
      assert.notEqual(first.userId, user.userId);
    });
  }
});

/** A server that knows one answer. */
async function answerEverything(status: number, body: string): Promise<AsyncDisposable & { url: string }> {
  const server = createServer((_, response) => void response.writeHead(status).end(body));
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
