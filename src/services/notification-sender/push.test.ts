/**
 * The real Firebase SDK against the push stand-in, over real sockets: what arrives, what each refusal becomes, and that
 * neither a broken network nor a hostile server gets a hang or a secret out of the pusher.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, mock, test } from "node:test";
import { inspect } from "node:util";
import { getApps } from "firebase-admin/app";
import { type Clock, systemClock } from "../../clock.ts";
import { createServiceAccount, identityOf, readLedger, startPushStandIn } from "../../dev/push-stand-in.ts";
import { ExitCode, StartupError } from "../../errors.ts";
import { createTestClock } from "../../testing/clock.ts";
import { freePort } from "../../testing/command.ts";
import { until } from "../../testing/until.ts";
import { createPusher, type PusherOptions, type PushMessage } from "./push.ts";
import type { ServiceAccountKey } from "./push-credentials.ts";
import { isPostponed } from "./push-outcome.ts";

const projectId = "concierge-test";
const promptlyMs = 6000;
const sendTimeoutMs = 15_000;
let key: ServiceAccountKey;
let folder: string;
let ledgerCount = 0;
const warnings: unknown[] = [];
const never = new AbortController().signal;

before(async () => {
  // google-auth-library prints a deprecation of what firebase-admin calls.
  mock.method(console, "warn", (line: unknown) => void warnings.push(line));
  key = await createServiceAccount(projectId);
  folder = await mkdtemp(join(tmpdir(), "push-test-"));
});

after(async () => {
  await rm(folder, { recursive: true, force: true });
  assert.deepEqual(getApps(), [], "every app of the SDK is deleted");
});

function newLedgerFile(): string {
  ledgerCount += 1;
  return join(folder, `ledger-${ledgerCount}.jsonl`);
}

function startStandIn(options: { ledgerFile?: string; port?: number; clock?: Clock; key?: ServiceAccountKey } = {}) {
  const { ledgerFile = newLedgerFile(), clock = systemClock, port } = options;
  return startPushStandIn({ ledgerFile, clock, port, projectId, serviceAccount: identityOf(options.key ?? key) });
}

function startPusher(endpoint: string, options: Partial<PusherOptions> = {}) {
  return createPusher({ key, endpoint, sendTimeoutMs, clock: systemClock, ...options });
}

function pushTo(deviceToken: string, changes: Partial<PushMessage> = {}): PushMessage {
  return {
    deviceToken,
    notificationId: `id-${deviceToken}`,
    title: "Hello",
    body: "World",
    data: {},
    priority: "normal",
    ...changes,
  };
}

/** A server of the worst kind, with its own answers. */
async function startServer(handler: (request: IncomingMessage, body: string, response: ServerResponse) => void) {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    handler(request, body, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

test("an accepted push is in the ledger with its text as it was and one identity on every platform", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  const clock = createTestClock(1_700_000_000_250);
  await using pusher = await startPusher(standIn.url, { clock });
  const title = "{{name}} $1 \u202e‮ 你好 %s";
  const body = '<b>"quoted"</b>\n\\ \u0007';
  const data = { order: "42", notification_id: "forged" };
  const urgent = { priority: "high", expiresAtMs: 1_700_000_060_900 } as const;
  const results = await pusher.send([pushTo("phone", { notificationId: "n-1", title, body, data, ...urgent })]);

  const [entry, ...others] = await readLedger(ledgerFile);
  assert.equal(others.length, 0);
  assert.deepEqual(results, [{ outcome: "sent", messageId: entry?.name }]);
  assert.equal(entry?.token, "phone");
  assert.equal(entry?.project, projectId);
  assert.ok(Math.abs(Date.parse(entry.time) - systemClock.now()) < 60_000);
  assert.deepEqual(entry.message, {
    token: "phone",
    notification: { title, body },
    data: { order: "42", notification_id: "n-1" },
    android: { collapse_key: "n-1", priority: "high", ttl: "60s", notification: { tag: "n-1" } },
    apns: { headers: { "apns-collapse-id": "n-1", "apns-priority": "10", "apns-expiration": "1700000060" } },
    webpush: { headers: { Urgency: "high", TTL: "60" }, notification: { tag: "n-1" } },
  });
});

test("S-NOT-09 each refusal of FCM becomes the outcome to act on, others unaffected", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(standIn.url);
  const expected = {
    "unregistered-a": { outcome: "unregistered" },
    "invalid-a": { outcome: "rejected", code: "messaging/invalid-argument" },
    "sender-mismatch-a": { outcome: "rejected", code: "messaging/mismatched-credential" },
    "quota-a": { outcome: "untried", code: "messaging/message-rate-exceeded", retryAfterSeconds: 30 },
    "quota-7-a": { outcome: "untried", code: "messaging/message-rate-exceeded", retryAfterSeconds: 7 },
    "unavailable-a": { outcome: "retry", code: "messaging/server-unavailable" },
    "unavailable-9-a": { outcome: "retry", code: "messaging/server-unavailable", retryAfterSeconds: 9 },
    "internal-a": { outcome: "retry", code: "messaging/internal-error" },
    "apns-a": { outcome: "retry", code: "messaging/third-party-auth-error" },
    "dropped-a": { outcome: "unanswered", code: "app/network-error" },
    "": { outcome: "rejected", code: "messaging/invalid-payload" },
  };
  const tokens = [...Object.keys(expected), "good"];
  const start = systemClock.monotonic();
  const results = await pusher.send(tokens.map((token) => pushTo(token)));
  assert.deepEqual(results.slice(0, -1), Object.values(expected));
  assert.equal(results.at(-1)?.outcome, "sent");
  // The SDK's own retries of a 503 (7 s and more) are off, and so is its repeating of what lost its answer.
  assert.ok(systemClock.monotonic() - start < promptlyMs);
  const accepted = (await readLedger(ledgerFile)).map((entry) => entry.token);
  assert.deepEqual(accepted.sort(), ["dropped-a", "good"]);
});

test("a payload that FCM refuses is rejected and does not stop the others", async () => {
  await using standIn = await startStandIn();
  await using pusher = await startPusher(standIn.url);
  const results = await pusher.send([
    pushTo("big", { body: "x".repeat(4096) }),
    pushTo("reserved", { data: { from: "me" } }),
    pushTo("good"),
  ]);
  assert.deepEqual(results.slice(0, 2), [
    { outcome: "rejected", code: "messaging/invalid-argument" },
    { outcome: "rejected", code: "messaging/invalid-argument" },
  ]);
  assert.equal(results[2]?.outcome, "sent");
});

test("R-NOT-10 one dead token in a batch of 500: 499 sent, 1 unregistered", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(standIn.url);
  const messages = Array.from({ length: 500 }, (_, index) =>
    pushTo(index === 321 ? "unregistered-x" : `device-${index}`),
  );
  const results = await pusher.send(messages);
  assert.deepEqual(results[321], { outcome: "unregistered" });
  assert.equal(results.filter((result) => result.outcome === "sent").length, 499);
  const nameByToken = new Map((await readLedger(ledgerFile)).map((entry) => [entry.token, entry.name]));
  assert.equal(nameByToken.size, 499);
  for (const [index, result] of results.entries()) {
    if (result.outcome === "sent") assert.equal(nameByToken.get(`device-${index}`), result.messageId);
  }
});

test("with nothing listening every push is to be retried, soon", async () => {
  await using pusher = await startPusher(`http://127.0.0.1:${await freePort()}`);
  const start = systemClock.monotonic();
  const results = await pusher.send([pushTo("a"), pushTo("b")]);
  assert.deepEqual(results, Array(2).fill({ outcome: "untried", code: "push/token-endpoint-unavailable" }));
  assert.ok(systemClock.monotonic() - start < promptlyMs);
});

test("a stand-in that goes down is a network error, and one that comes back is used again", async () => {
  const ledgerFile = newLedgerFile();
  const first = await startStandIn({ ledgerFile, port: await freePort() });
  await using pusher = await startPusher(first.url);
  assert.equal((await pusher.send([pushTo("a")]))[0]?.outcome, "sent");
  await first[Symbol.asyncDispose]();
  // On the old connection, it may be, which might have carried it; then on none.
  assert.ok(isPostponed((await pusher.send([pushTo("b")]))[0]!));
  assert.deepEqual(await pusher.send([pushTo("b")]), [{ outcome: "untried", code: "push/unreachable" }]);

  await using second = await startStandIn({ ledgerFile, port: Number(new URL(first.url).port) });
  assert.equal(second.url, first.url);
  assert.equal((await pusher.send([pushTo("c")]))[0]?.outcome, "sent");
  assert.deepEqual(
    (await readLedger(ledgerFile)).map((entry) => entry.token),
    ["a", "c"],
  );
});

test("R-NOT-11 an access token that expired is replaced once, for all that were refused", async () => {
  let offsetMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + offsetMs };
  await using standIn = await startStandIn({ clock });
  await using pusher = await startPusher(standIn.url);
  const messages = ["a", "b", "c"].map((token) => pushTo(token));
  assert.ok((await pusher.send(messages)).every((result) => result.outcome === "sent"));
  offsetMs = 3_600_000;
  assert.deepEqual(await pusher.send(messages), Array(3).fill({ outcome: "untried", code: "push/unauthenticated" }));
  assert.ok((await pusher.send(messages)).every((result) => result.outcome === "sent"));
});

test("R-NOT-11 an access token is fetched once, before the first batch, and for all of its pushes", async () => {
  let tokenRequests = 0;
  await using server = await startServer((request, _body, response) => {
    if (request.url === "/token") tokenRequests += 1;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ access_token: "t", expires_in: 3600, name: "projects/p/messages/1" }));
  });
  await using pusher = await startPusher(server.url);
  assert.deepEqual(await Promise.all([pusher.prepare(never), pusher.prepare(never)]), [undefined, undefined]);
  assert.equal(tokenRequests, 1);
  for (const _ of [1, 2]) await pusher.send(Array.from({ length: 50 }, (_, index) => pushTo(`device-${index}`)));
  assert.equal(tokenRequests, 1);
});

test("500 pushes are all written before the first is answered, with a stand-in as in production", async () => {
  const waiting: ServerResponse[] = [];
  const answer = JSON.stringify({ access_token: "t", expires_in: 3600, name: "projects/p/messages/1" });
  await using server = await startServer((request, _body, response) => {
    response.setHeader("content-type", "application/json");
    if (request.url === "/token") return void response.end(answer);
    if (waiting.push(response) === 500) for (const each of waiting) each.end(answer);
  });
  await using pusher = await startPusher(server.url);
  const results = await pusher.send(Array.from({ length: 500 }, (_, index) => pushTo(`device-${index}`)));
  assert.ok(results.every(({ outcome }) => outcome === "sent"));
});

test("a server that never answers costs no more than the timeout; disposal ends a send", async () => {
  await using server = await startServer(() => undefined);
  const interrupted = (code: string) => [{ outcome: "unanswered", code }];

  await using slow = await startPusher(server.url, { sendTimeoutMs: 200 });
  const start = systemClock.monotonic();
  assert.deepEqual(await slow.send([pushTo("a")]), interrupted("push/deadline-exceeded"));
  assert.ok(systemClock.monotonic() - start < promptlyMs);

  await using pusher = await startPusher(server.url);
  const stopping = new AbortController();
  const prepared = pusher.prepare(stopping.signal);
  stopping.abort();
  assert.equal((await prepared)?.code, "push/closed");
  const closed = pusher.send([pushTo("a")]);
  await pusher[Symbol.asyncDispose]();
  await pusher[Symbol.asyncDispose]();
  assert.deepEqual(await closed, interrupted("push/closed"));
  assert.deepEqual(await pusher.send([pushTo("a")]), [
    { outcome: "untried", code: "push/closed", retryAfterSeconds: 0 },
  ]);
  assert.deepEqual(await pusher.prepare(never), { outcome: "untried", code: "push/closed", retryAfterSeconds: 0 });
});

test("R-NOT-03 a push that FCM has but did not answer is to be retried under the same identity", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(standIn.url);
  const sending = pusher.send([pushTo("slow-60000-a", { notificationId: "n-1" })]);
  await until("the push", async () => (await readLedger(ledgerFile)).length > 0);
  await pusher[Symbol.asyncDispose]();
  assert.deepEqual(await sending, [{ outcome: "unanswered", code: "push/closed" }]);
  const [entry] = await readLedger(ledgerFile);
  assert.deepEqual(entry?.message.data, { notification_id: "n-1" });
});

test("an access token that arrives after the send was given up is not used", async () => {
  const sent: string[] = [];
  const held = Promise.withResolvers<ServerResponse>();
  let isFirst = true;
  const answer = JSON.stringify({ access_token: "t", expires_in: 3600, name: "projects/p/messages/1" });
  await using server = await startServer((request, body, response) => {
    response.setHeader("content-type", "application/json");
    if (request.url !== "/token") sent.push(JSON.parse(body).message.token);
    if (isFirst) held.resolve(response);
    else response.end(answer);
    isFirst = false;
  });
  await using pusher = await startPusher(server.url, { sendTimeoutMs: 3000 });
  const sending = pusher.send([pushTo("given-up")]);
  const response = await held.promise;
  assert.deepEqual(await sending, [{ outcome: "unanswered", code: "push/deadline-exceeded" }]);
  response.end(answer);
  // These take a round trip more than the late push would.
  await pusher.send([pushTo("b")]);
  await pusher.send([pushTo("c")]);
  assert.deepEqual(sent, ["b", "c"]);
});

test("two pushers live side by side, each with its own project's key and end", async () => {
  const [firstLedger, secondLedger] = [newLedgerFile(), newLedgerFile()];
  const otherKey = await createServiceAccount(projectId);
  await using first = await startStandIn({ ledgerFile: firstLedger });
  await using second = await startStandIn({ ledgerFile: secondLedger, key: otherKey });
  await using firstPusher = await startPusher(first.url);
  await using secondPusher = await startPusher(second.url, { key: otherKey });
  await Promise.all([firstPusher.send([pushTo("a")]), secondPusher.send([pushTo("b")])]);
  await firstPusher[Symbol.asyncDispose]();
  assert.equal((await secondPusher.send([pushTo("c")]))[0]?.outcome, "sent");
  assert.deepEqual(
    (await readLedger(firstLedger)).map((entry) => entry.token),
    ["a"],
  );
  assert.deepEqual(
    (await readLedger(secondLedger)).map((entry) => entry.token),
    ["b", "c"],
  );
});

test("another project's key, or another account's, is our trouble: nothing is given up", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using wrongProject = await startPusher(standIn.url, { key: { ...key, project_id: "another" } });
  assert.deepEqual(await wrongProject.send([pushTo("a")]), [{ outcome: "untried", code: "push/permission-denied" }]);
  await using wrongKey = await startPusher(standIn.url, { key: await createServiceAccount(projectId) });
  assert.deepEqual(await wrongKey.prepare(never), { outcome: "untried", code: "push/credentials-refused" });
  assert.deepEqual(await wrongKey.send([pushTo("a")]), [{ outcome: "untried", code: "push/credentials-refused" }]);
  assert.deepEqual(await readLedger(ledgerFile), []);
});

test("S-NOT-11 the key is in no result, whatever the token endpoint or FCM answers with", async () => {
  const canaries = { private_key_id: "canary-private-key-id", client_id: "canary-client-id" };
  const canaryKey = { ...key, ...canaries, client_secret: "canary-client-secret" };
  const everything = { depth: 9, showHidden: true };
  const keyText = key.private_key.replaceAll(/-----.*-----|\n/g, "").slice(100, 164);
  for (const status of [400, 401, 403, 404, 500]) {
    for (const failingPath of ["/token", "/send"]) {
      let isEchoed = false;
      // The worst server: it sends back all it was told, credentials and all.
      await using server = await startServer((request, body, response) => {
        response.setHeader("content-type", "application/json");
        const isToken = request.url === "/token";
        if (isToken && failingPath === "/send") {
          response.end('{"access_token":"canary-bearer","expires_in":3600}');
          return;
        }
        isEchoed = true;
        const echo = `${JSON.stringify(canaryKey)} ${body} ${request.headers.authorization} canary`;
        response.writeHead(status, { "x-echo": "canary" });
        response.end(JSON.stringify({ error: isToken ? echo : { code: status, status: echo, message: echo }, echo }));
      });
      await using pusher = await startPusher(server.url, { key: canaryKey, sendTimeoutMs: 5000 });
      const results = await pusher.send([pushTo("a")]);
      assert.ok(isEchoed);
      assert.ok(isPostponed(results[0]!));
      const shown = [
        JSON.stringify(results),
        ...[results, pusher, warnings].map((each) => inspect(each, everything)),
      ].join(" ");
      assert.ok(!shown.includes("canary") && !shown.includes(keyText), `${status} ${failingPath}: ${shown}`);
    }
  }
});

test("S-NOT-11 an endpoint that cannot be used stops the start without showing any of it", async () => {
  const canary = "canary-in-the-endpoint";
  const isClean = (error: unknown) => {
    assert.ok(error instanceof StartupError);
    assert.equal(error.exitCode, ExitCode.config);
    assert.ok(!inspect(error, { depth: null, showHidden: true }).includes(canary));
    return true;
  };
  const endpoints = ["fcm", "https://127.0.0.1:1", `http://user:${canary}@127.0.0.1:1`, "http://127.0.0.1:1/path"];
  for (const endpoint of endpoints) await assert.rejects(startPusher(endpoint), isClean);
});

test("without an endpoint the production path is built, reaching nothing until it sends", async () => {
  const pusher = await createPusher({ key, sendTimeoutMs, clock: systemClock });
  assert.deepEqual(await pusher.send([]), []);
  await pusher[Symbol.asyncDispose]();
});
