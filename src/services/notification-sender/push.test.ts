/**
 * The real Firebase SDK against the push stand-in, over real sockets: what arrives, what each refusal becomes, and that
 * neither a broken network nor a hostile server gets a hang or a secret out of the pusher.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, mock, test } from "node:test";
import { inspect } from "node:util";
import { getApps } from "firebase-admin/app";
import { type Clock, systemClock } from "../../clock.ts";
import {
  createServiceAccount,
  identityOf,
  readLedger,
  type ServiceAccountKey,
  startPushStandIn,
} from "../../dev/push-stand-in.ts";
import { ExitCode, StartupError } from "../../errors.ts";
import { createPusher, fcmMessageOf, type PushMessage } from "./push.ts";

const projectId = "concierge-test";
const promptlyMs = 3000;
let key: ServiceAccountKey;
let folder: string;
let ledgerCount = 0;
const warnings: unknown[] = [];

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

function startPusher(endpoint: string, options: { key?: ServiceAccountKey; sendTimeoutMs?: number } = {}) {
  const credentials = JSON.stringify(options.key ?? key);
  return createPusher({ credentials, endpoint, clock: systemClock, sendTimeoutMs: options.sendTimeoutMs });
}

function pushTo(deviceToken: string, changes: Partial<PushMessage> = {}): PushMessage {
  return { deviceToken, notificationId: `id-${deviceToken}`, title: "Hello", body: "World", data: {}, ...changes };
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
  await using pusher = await startPusher(standIn.url);
  const title = "{{name}} $1 \u202e‮ 你好 %s";
  const body = '<b>"quoted"</b>\n\\ \u0007';
  const data = { order: "42", notification_id: "forged" };
  const results = await pusher.send([pushTo("phone", { notificationId: "n-1", title, body, data, ttlSeconds: 60 })]);

  const [entry, ...others] = await readLedger(ledgerFile);
  assert.equal(others.length, 0);
  assert.deepEqual(results, [{ outcome: "sent", messageId: entry?.name }]);
  assert.equal(entry?.token, "phone");
  assert.equal(entry?.project, projectId);
  assert.ok(Math.abs(Date.parse(entry.time) - systemClock.now()) < 60_000);
  const { apns, ...message } = entry.message as { apns: { headers: Record<string, string> } };
  assert.deepEqual(message, {
    token: "phone",
    notification: { title, body },
    data: { order: "42", notification_id: "n-1" },
    android: { collapse_key: "n-1", notification: { tag: "n-1" }, ttl: "60s" },
    webpush: { notification: { tag: "n-1" }, headers: { TTL: "60" } },
  });
  assert.equal(apns.headers["apns-collapse-id"], "n-1");
  assert.ok(Number(apns.headers["apns-expiration"]) > systemClock.now() / 1000);
});

test("how long a push is kept is said in each platform's own way, or not at all", () => {
  const nowMs = 1_700_000_000_000;
  const keptFor = (ttlSeconds?: number) => {
    const message = fcmMessageOf(pushTo("phone", { ttlSeconds }), nowMs);
    return [message.android?.ttl, message.apns?.headers?.["apns-expiration"], message.webpush?.headers?.TTL];
  };
  assert.deepEqual(keptFor(undefined), [undefined, undefined, undefined]);
  assert.deepEqual(keptFor(0), [0, "0", "0"]);
  assert.deepEqual(keptFor(90), [90_000, "1700000090", "90"]);
  assert.deepEqual(keptFor(1e9), [2_419_200_000, "1702419200", "2419200"]);
});

test("S-NOT-09 each refusal of FCM becomes the outcome to act on, others unaffected", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(standIn.url);
  const expected = {
    "unregistered-a": { outcome: "unregistered" },
    "invalid-a": { outcome: "rejected", code: "messaging/invalid-argument" },
    "sender-mismatch-a": { outcome: "rejected", code: "messaging/mismatched-credential" },
    "quota-a": { outcome: "retry", code: "messaging/message-rate-exceeded", retryAfterMs: 30_000 },
    "quota-7-a": { outcome: "retry", code: "messaging/message-rate-exceeded", retryAfterMs: 7000 },
    "unavailable-a": { outcome: "retry", code: "messaging/server-unavailable" },
    "unavailable-9-a": { outcome: "retry", code: "messaging/server-unavailable", retryAfterMs: 9000 },
    "internal-a": { outcome: "retry", code: "messaging/internal-error" },
    "apns-a": { outcome: "retry", code: "messaging/third-party-auth-error" },
    "dropped-a": { outcome: "retry", code: "app/network-error" },
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

test("more than 500 messages go out in several calls, with results in order; none is no call", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(standIn.url);
  assert.deepEqual(await pusher.send([]), []);
  const messages = Array.from({ length: 501 }, (_, index) =>
    pushTo(index === 500 ? "unregistered-last" : `device-${index}`),
  );
  const results = await pusher.send(messages);
  assert.equal(results.length, 501);
  assert.ok(results.slice(0, 500).every((result) => result.outcome === "sent"));
  assert.deepEqual(results[500], { outcome: "unregistered" });
  assert.equal((await readLedger(ledgerFile)).length, 500);
});

test("with nothing listening every push is to be retried, soon", async () => {
  const standIn = await startStandIn();
  await standIn[Symbol.asyncDispose]();
  await using pusher = await startPusher(standIn.url);
  const start = systemClock.monotonic();
  const results = await pusher.send([pushTo("a"), pushTo("b")]);
  assert.deepEqual(results, Array(2).fill({ outcome: "retry", code: "push/token-endpoint-unavailable" }));
  assert.ok(systemClock.monotonic() - start < promptlyMs);
});

test("a stand-in that goes down is a network error, and one that comes back is used again", async () => {
  const ledgerFile = newLedgerFile();
  const first = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(first.url);
  assert.equal((await pusher.send([pushTo("a")]))[0]?.outcome, "sent");
  await first[Symbol.asyncDispose]();
  assert.deepEqual(await pusher.send([pushTo("b")]), [{ outcome: "retry", code: "app/network-error" }]);

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
  assert.deepEqual(await pusher.send(messages), Array(3).fill({ outcome: "retry", code: "push/unauthenticated" }));
  assert.ok((await pusher.send(messages)).every((result) => result.outcome === "sent"));
});

test("a batch fetches one access token, and the next batch none", async () => {
  let tokenRequests = 0;
  await using server = await startServer((request, _body, response) => {
    if (request.url === "/token") tokenRequests += 1;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ access_token: "t", expires_in: 3600, name: "projects/p/messages/1" }));
  });
  await using pusher = await startPusher(server.url);
  for (const _ of [1, 2]) await pusher.send(Array.from({ length: 50 }, (_, index) => pushTo(`device-${index}`)));
  assert.equal(tokenRequests, 1);
});

test("a server that never answers costs no more than the timeout; signal and disposal end a send", async () => {
  await using server = await startServer(() => undefined);
  const interrupted = (code: string) => [{ outcome: "retry", code }];

  await using slow = await startPusher(server.url, { sendTimeoutMs: 200 });
  const start = systemClock.monotonic();
  assert.deepEqual(await slow.send([pushTo("a")]), interrupted("push/deadline-exceeded"));
  assert.ok(systemClock.monotonic() - start < promptlyMs);

  await using pusher = await startPusher(server.url);
  const stop = new AbortController();
  const aborted = pusher.send([pushTo("a")], stop.signal);
  stop.abort();
  assert.deepEqual(await aborted, interrupted("push/aborted"));
  assert.deepEqual(await pusher.send([pushTo("a")], stop.signal), interrupted("push/aborted"));

  const closed = pusher.send([pushTo("a")]);
  await pusher[Symbol.asyncDispose]();
  await pusher[Symbol.asyncDispose]();
  assert.deepEqual(await closed, interrupted("push/closed"));
  assert.deepEqual(await pusher.send([pushTo("a")]), interrupted("push/closed"));
});

test("R-NOT-03 a push that FCM has but did not answer is to be retried under the same identity", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using pusher = await startPusher(standIn.url);
  const stop = new AbortController();
  const sending = pusher.send([pushTo("slow-60000-a", { notificationId: "n-1" })], stop.signal);
  const giveUpMs = systemClock.monotonic() + promptlyMs;
  while ((await readLedger(ledgerFile)).length === 0) assert.ok(systemClock.monotonic() < giveUpMs);
  stop.abort();
  assert.deepEqual(await sending, [{ outcome: "retry", code: "push/aborted" }]);
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
  await using pusher = await startPusher(server.url);
  const stop = new AbortController();
  const sending = pusher.send([pushTo("given-up")], stop.signal);
  const response = await held.promise;
  stop.abort();
  await sending;
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

test("the key may be a file", async () => {
  const credentialsFile = join(folder, "key.json");
  await writeFile(credentialsFile, JSON.stringify(key), { mode: 0o600 });
  await using standIn = await startStandIn();
  await using pusher = await createPusher({ credentialsFile, endpoint: standIn.url, clock: systemClock });
  assert.equal((await pusher.send([pushTo("a")]))[0]?.outcome, "sent");
});

test("another project's key, or another account's, is our trouble: nothing is given up", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await startStandIn({ ledgerFile });
  await using wrongProject = await startPusher(standIn.url, { key: { ...key, project_id: "another" } });
  assert.deepEqual(await wrongProject.send([pushTo("a")]), [{ outcome: "retry", code: "push/permission-denied" }]);
  await using wrongKey = await startPusher(standIn.url, { key: await createServiceAccount(projectId) });
  assert.deepEqual(await wrongKey.send([pushTo("a")]), [{ outcome: "retry", code: "push/credentials-refused" }]);
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
      await using pusher = await startPusher(server.url, { key: canaryKey, sendTimeoutMs: 1000 });
      const results = await pusher.send([pushTo("a")]);
      assert.ok(isEchoed);
      assert.equal(results[0]?.outcome, "retry");
      const shown = [
        JSON.stringify(results),
        ...[results, pusher, warnings].map((each) => inspect(each, everything)),
      ].join(" ");
      assert.ok(!shown.includes("canary") && !shown.includes(keyText), `${status} ${failingPath}: ${shown}`);
    }
  }
});

test("S-NOT-11 a key that cannot be used stops the start without showing any of it", async () => {
  const canary = "canary-in-the-key";
  const brokenKeys = [
    `${canary}{`,
    `{"private_key": "${canary}`,
    `"${canary}"`,
    JSON.stringify({ ...key, type: canary }),
    JSON.stringify({ ...key, project_id: undefined, private_key_id: canary }),
    JSON.stringify({ ...key, private_key: canary }),
    JSON.stringify({ ...key, private_key: `-----BEGIN PRIVATE KEY-----\n${canary}\n-----END PRIVATE KEY-----\n` }),
  ];
  const isClean = (error: unknown) => {
    assert.ok(error instanceof StartupError);
    assert.equal(error.exitCode, ExitCode.config);
    assert.ok(!inspect(error, { depth: null, showHidden: true }).includes(canary));
    return true;
  };
  for (const credentials of brokenKeys)
    await assert.rejects(createPusher({ credentials, clock: systemClock }), isClean);
  await assert.rejects(createPusher({ credentialsFile: join(folder, "missing"), clock: systemClock }), isClean);
  for (const endpoint of [
    "fcm",
    "https://127.0.0.1:1",
    `http://user:${canary}@127.0.0.1:1`,
    "http://127.0.0.1:1/path",
  ]) {
    await assert.rejects(createPusher({ credentials: JSON.stringify(key), endpoint, clock: systemClock }), isClean);
  }
});

test("without an endpoint the production path is built, reaching nothing until it sends", async () => {
  const pusher = await createPusher({ credentials: JSON.stringify(key), clock: systemClock });
  assert.deepEqual(await pusher.send([]), []);
  await pusher[Symbol.asyncDispose]();
});
