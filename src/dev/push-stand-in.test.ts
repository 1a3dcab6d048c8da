/** The push stand-in from outside, over plain HTTP: what it accepts, what it refuses and how, what it keeps. */
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { Agent } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { cert } from "firebase-admin/app";
import { SignJWT } from "jose";
import { systemClock } from "../clock.ts";
import { ExitCode } from "../errors.ts";
import { until } from "../testing/until.ts";
import {
  createServiceAccount,
  identityOf,
  type PushStandIn,
  readLedger,
  type ServiceAccountKey,
  startPushStandIn,
} from "./push-stand-in.ts";

const projectId = "concierge-test";
const audience = "https://oauth2.googleapis.com/token";
const scope = "https://www.googleapis.com/auth/firebase.messaging";
let key: ServiceAccountKey;
let folder: string;
let ledgerCount = 0;

before(async () => {
  key = await createServiceAccount(projectId);
  folder = await mkdtemp(join(tmpdir(), "push-stand-in-test-"));
});

after(() => rm(folder, { recursive: true, force: true }));

function newLedgerFile(): string {
  ledgerCount += 1;
  return join(folder, "ledgers", `${ledgerCount}.jsonl`);
}

function start(ledgerFile: string, clock = systemClock): Promise<PushStandIn> {
  return startPushStandIn({ ledgerFile, clock, projectId, serviceAccount: identityOf(key) });
}

/** An assertion as the SDK signs it, with some claims replaced (undefined leaves one out). */
function assertionWith(claims: Record<string, unknown> = {}, signedBy = key): Promise<string> {
  const nowS = Math.floor(systemClock.now() / 1000);
  const usual = { iss: key.client_email, aud: audience, scope, iat: nowS, exp: nowS + 3600 };
  const jwt = new SignJWT(JSON.parse(JSON.stringify({ ...usual, ...claims })));
  return jwt.setProtectedHeader({ alg: "RS256" }).sign(createPrivateKey(signedBy.private_key));
}

async function exchange(standIn: PushStandIn, assertion: string, grantType?: string) {
  const grant_type = grantType ?? "urn:ietf:params:oauth:grant-type:jwt-bearer";
  const body = new URLSearchParams({ grant_type, assertion });
  const response = await fetch(`${standIn.url}/token`, { method: "POST", body });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function bearerOf(standIn: PushStandIn): Promise<string> {
  const { body } = await exchange(standIn, await assertionWith());
  return `Bearer ${body.access_token}`;
}

async function post(standIn: PushStandIn, authorization: string, body: unknown, project = projectId) {
  const response = await fetch(`${standIn.url}/v1/projects/${project}/messages:send`, {
    method: "POST",
    headers: { authorization, "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const answer = (await response.json()) as {
    name?: string;
    error?: { code: number; status: string; message: string; details?: { "@type": string; errorCode?: string }[] };
  };
  return { status: response.status, retryAfter: response.headers.get("retry-after"), ...answer };
}

test("a service account's key has Google's format and a key of its own", async () => {
  const other = await createServiceAccount(projectId);
  assert.notEqual(other.private_key, key.private_key);
  assert.equal(key.type, "service_account");
  assert.match(key.client_email, /@concierge-test\.iam\.gserviceaccount\.com$/);
  assert.match(identityOf(key).publicKey, /^-----BEGIN PUBLIC KEY-----/);
  assert.equal(createPrivateKey(key.private_key).asymmetricKeyDetails?.modulusLength, 2048);
});

test("an assertion is traded for a token of an hour only if everything in it is right", async () => {
  await using standIn = await start(newLedgerFile());
  const good = await exchange(standIn, await assertionWith());
  assert.equal(good.status, 200);
  assert.deepEqual([good.body.expires_in, good.body.token_type], [3600, "Bearer"]);

  const nowS = Math.floor(systemClock.now() / 1000);
  const refused = async (error: string, assertion: string, grantType?: string) => {
    const answer = await exchange(standIn, assertion, grantType);
    assert.deepEqual([answer.status, answer.body.error, answer.body.access_token], [400, error, undefined]);
  };
  await refused("invalid_grant", await assertionWith({}, await createServiceAccount(projectId)));
  await refused("invalid_grant", await assertionWith({ iss: "somebody@else" }));
  await refused("invalid_grant", await assertionWith({ aud: standIn.url }));
  await refused("invalid_grant", await assertionWith({ iat: nowS - 7200, exp: nowS - 3600 }));
  await refused("invalid_grant", await assertionWith({ exp: nowS + 7200 }));
  await refused("invalid_grant", await assertionWith({ exp: undefined }));
  await refused("invalid_grant", await assertionWith({ iat: nowS + 3000 }));
  await refused("invalid_grant", await assertionWith({ scope: undefined }));
  await refused("invalid_scope", await assertionWith({ scope: "https://www.googleapis.com/auth/drive" }));
  await refused("invalid_grant", "not.a.jwt");
  await refused("invalid_grant", "");
  await refused("unsupported_grant_type", await assertionWith(), "password");
  const unsigned = (await assertionWith()).replace(/^[^.]+/, Buffer.from('{"alg":"none"}').toString("base64url"));
  await refused("invalid_grant", unsigned);
});

test("the SDK's own service account credential is served", async (context) => {
  // It prints a deprecation of its own.
  context.mock.method(console, "warn", () => undefined);
  await using standIn = await start(newLedgerFile());
  class ToStandIn extends Agent {
    override createConnection() {
      return connect({ host: "127.0.0.1", port: Number(new URL(standIn.url).port) });
    }
  }
  const file = join(folder, "key.json");
  await writeFile(file, JSON.stringify(key), { mode: 0o600 });
  const token = await cert(file, new ToStandIn()).getAccessToken();
  const sent = await post(standIn, `Bearer ${token.access_token}`, { message: { token: "a" } });
  assert.equal(sent.status, 200);
});

test("nobody sends without a token that was issued here and has not expired", async () => {
  let offsetMs = 0;
  const ledgerFile = newLedgerFile();
  await using standIn = await start(ledgerFile, { ...systemClock, now: () => systemClock.now() + offsetMs });
  const bearer = await bearerOf(standIn);
  const body = { message: { token: "a" } };
  for (const authorization of ["", "Bearer", "Bearer ya29.guess", bearer.replace("Bearer", "Basic"), `${bearer}x`]) {
    const { status, error } = await post(standIn, authorization, body);
    assert.deepEqual([status, error?.status, error?.details], [401, "UNAUTHENTICATED", undefined]);
  }
  assert.equal((await post(standIn, bearer, body)).status, 200);
  offsetMs = 3_600_000;
  assert.equal((await post(standIn, bearer, body)).status, 401);
  assert.equal((await readLedger(ledgerFile)).length, 1);
});

test("a token outlives a restart, as Google's do, but opens nothing for another account", async () => {
  const first = await start(newLedgerFile());
  const bearer = await bearerOf(first);
  assert.notEqual(await bearerOf(first), bearer);
  await first[Symbol.asyncDispose]();
  await using second = await start(newLedgerFile());
  assert.equal((await post(second, bearer, { message: { token: "a" } })).status, 200);
  const serviceAccount = identityOf(await createServiceAccount(projectId));
  const options = { ledgerFile: newLedgerFile(), clock: systemClock, projectId, serviceAccount };
  await using other = await startPushStandIn(options);
  assert.equal((await post(other, bearer, { message: { token: "a" } })).status, 401);
});

test("an accepted push is answered with its name and kept whole, one line each", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await start(ledgerFile);
  const bearer = await bearerOf(standIn);
  const message = { token: "a", notification: { title: "T\n" }, data: { k: "v" }, android: { collapse_key: "c" } };
  const { status, name } = await post(standIn, bearer, { message });
  assert.equal(status, 200);
  assert.match(name!, /^projects\/concierge-test\/messages\/[0-9a-f-]{36}$/);
  await post(standIn, bearer, { message: { topic: "news" }, validateOnly: false });
  const [first, second] = await readLedger(ledgerFile);
  assert.deepEqual(first, { time: first!.time, name, project: projectId, token: "a", message });
  assert.equal(new Date(first!.time).toISOString(), first!.time);
  assert.deepEqual([second!.token, second!.message], [undefined, { topic: "news" }]);
  assert.equal((await readFile(ledgerFile, "utf8")).split("\n").length, 3);
  assert.equal((await stat(ledgerFile)).mode & 0o777, 0o600);
});

test("a request that FCM would refuse is refused with FCM's error body", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await start(ledgerFile);
  const bearer = await bearerOf(standIn);
  const bodies: unknown[] = [
    "",
    "{",
    "[]",
    {},
    { message: "text" },
    { message: { token: "a" }, dry_run: true },
    { message: { token: "a" }, validate_only: "yes" },
    { message: {} },
    { message: { token: "" } },
    { message: { token: 5 } },
    { message: { token: "a", topic: "b" } },
    { message: { topic: "a", condition: "b" } },
    { message: { token: "a", to: "b" } },
    { message: { token: "a", notification: "text" } },
    { message: { token: "a", notification: { title: 5 } } },
    { message: { token: "a", notification: { subtitle: "x" } } },
    { message: { token: "a", data: { count: 5 } } },
    { message: { token: "a", data: { from: "x" } } },
    { message: { token: "a", android: { priority: "urgent" } } },
    { message: { token: "a", android: { ttl: 60 } } },
    { message: { token: "a", android: { ttl: "60" } } },
    { message: { token: "a", apns: { headers: { "apns-priority": 10 } } } },
    { message: { token: "a", webpush: { headers: "TTL: 60" } } },
    { message: { token: "a", data: { "google.x": "x" } } },
    { message: { token: "a", data: { "": "x".repeat(4097) } } },
    { message: { token: "a", notification: { title: "é".repeat(1024) }, data: { key: "x".repeat(2046) } } },
  ];
  for (const body of bodies) {
    const { status, error } = await post(standIn, bearer, body);
    const shown = JSON.stringify(body).slice(0, 80);
    assert.deepEqual([status, error?.code, error?.status], [400, 400, "INVALID_ARGUMENT"], shown);
    assert.equal(error?.details?.[0]?.["@type"], "type.googleapis.com/google.firebase.fcm.v1.FcmError");
    assert.equal(error.details[0].errorCode, "INVALID_ARGUMENT");
    assert.ok(error.message.length > 0);
  }
  const largest = { token: "a", notification: { title: "é".repeat(1024) }, data: { key: "x".repeat(2045) } };
  assert.equal((await post(standIn, bearer, { message: largest })).status, 200);
  const urgent = { priority: "high", ttl: "60s" };
  const headers = { Urgency: "high" };
  const allowed = { token: "a", android: urgent, apns: { headers }, webpush: { headers } };
  assert.equal((await post(standIn, bearer, { message: allowed })).status, 200);
  assert.equal((await post(standIn, bearer, `"${"x".repeat(1024 * 1024)}"`)).status, 413);
  assert.equal((await readLedger(ledgerFile)).length, 2);
});

test("another project is forbidden, another path is not found", async () => {
  await using standIn = await start(newLedgerFile());
  const { status, error } = await post(standIn, await bearerOf(standIn), { message: { token: "a" } }, "another");
  assert.deepEqual([status, error?.status], [403, "PERMISSION_DENIED"]);
  assert.ok(error?.details?.every((detail) => detail.errorCode === undefined));
  for (const path of ["/", "/v1/projects/concierge-test/messages", "/v1/projects//messages:send", "//"]) {
    const response = await fetch(`${standIn.url}${path}`, { method: "POST" });
    assert.equal(response.status, 404, path);
    await response.body?.cancel();
  }
});

test("validate_only checks everything and keeps nothing", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await start(ledgerFile);
  const bearer = await bearerOf(standIn);
  const validate = (token: string) => post(standIn, bearer, { message: { token }, validate_only: true });
  const { status, name } = await validate("a");
  assert.deepEqual([status, name], [200, "projects/concierge-test/messages/fake_message_id"]);
  assert.equal((await validate("unregistered-a")).status, 404);
  assert.deepEqual(await readLedger(ledgerFile), []);
});

test("a token's prefix provokes its fault, and only the accepted are kept", async () => {
  const ledgerFile = newLedgerFile();
  await using standIn = await start(ledgerFile);
  const bearer = await bearerOf(standIn);
  const send = (token: string) => post(standIn, bearer, { message: { token } });
  const faults: Record<string, [number, string, string, string | null]> = {
    "unregistered-1": [404, "NOT_FOUND", "UNREGISTERED", null],
    "invalid-1": [400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", null],
    "sender-mismatch-1": [403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", null],
    "quota-1": [429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "30"],
    "quota-2-1": [429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "2"],
    "unavailable-1": [503, "UNAVAILABLE", "UNAVAILABLE", null],
    "unavailable-4-1": [503, "UNAVAILABLE", "UNAVAILABLE", "4"],
    "internal-1": [500, "INTERNAL", "INTERNAL", null],
    "apns-1": [401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", null],
  };
  for (const [token, expected] of Object.entries(faults)) {
    const { status, error, retryAfter } = await send(token);
    assert.deepEqual([status, error?.status, error?.details?.[0]?.errorCode, retryAfter], expected, token);
  }
  const byInstallation = await post(standIn, bearer, { message: { fid: "unregistered-1" } });
  assert.equal(byInstallation.status, 404);
  assert.deepEqual([(await send("flaky-2-a")).status, (await send("flaky-2-a")).status], [500, 500]);
  assert.equal((await send("flaky-2-a")).status, 200);
  assert.equal((await send("slow-20-a")).status, 200);
  assert.equal((await send("slowly")).status, 200);
  await assert.rejects(send("dropped-a"));
  const kept = (await readLedger(ledgerFile)).map((entry) => entry.token);
  assert.deepEqual(kept, ["flaky-2-a", "slow-20-a", "slowly", "dropped-a"]);
});

test("the ledger outlives its process: a torn last line is cut, the rest is continued", async () => {
  const ledgerFile = newLedgerFile();
  assert.deepEqual(await readLedger(ledgerFile), []);
  const first = await start(ledgerFile);
  await post(first, await bearerOf(first), { message: { token: "a" } });
  await first[Symbol.asyncDispose]();
  await appendFile(ledgerFile, '{"time":"2026-');
  assert.equal((await readLedger(ledgerFile)).length, 1);
  await using second = await start(ledgerFile);
  const bearer = await bearerOf(second);
  await Promise.all(["b", "c", "d"].map((token) => post(second, bearer, { message: { token } })));
  const tokens = (await readLedger(ledgerFile)).map((entry) => entry.token);
  assert.deepEqual([tokens[0], ...tokens.slice(1).sort()], ["a", "b", "c", "d"]);
});

test("stopping cuts what is open, twice is once, and a taken port fails the start", async () => {
  const ledgerFile = newLedgerFile();
  const standIn = await start(ledgerFile);
  const bearer = await bearerOf(standIn);
  const port = Number(new URL(standIn.url).port);
  const options = { ledgerFile: newLedgerFile(), clock: systemClock, projectId, serviceAccount: identityOf(key) };
  await assert.rejects(startPushStandIn({ ...options, port }), { exitCode: ExitCode.unavailable });
  const pending = assert.rejects(post(standIn, bearer, { message: { token: "slow-60000-a" } }));
  await until("it is accepted", async () => (await readLedger(ledgerFile)).length > 0);
  await Promise.all([standIn[Symbol.asyncDispose](), standIn[Symbol.asyncDispose]()]);
  await pending;
  await assert.rejects(fetch(standIn.url));
});
