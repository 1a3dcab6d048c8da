/** Faults on demand, what was accepted, and the page that shows it: over plain HTTP, as programs and as browsers ask. */
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { SignJWT } from "jose";
import { systemClock } from "../clock.ts";
import {
  createServiceAccount,
  identityOf,
  type LedgerEntry,
  type PushStandIn,
  type ServiceAccountKey,
  startPushStandIn,
} from "./push-stand-in.ts";

const projectId = "concierge-test";
let folder: string;
let key: ServiceAccountKey;
let standIn: PushStandIn;
let bearer: string;

const start = () => {
  const ledgerFile = join(folder, "ledger.jsonl");
  return startPushStandIn({ ledgerFile, clock: systemClock, projectId, serviceAccount: identityOf(key) });
};

before(async () => {
  key = await createServiceAccount(projectId);
  folder = await mkdtemp(join(tmpdir(), "push-stand-in-desk-"));
  standIn = await start();
  bearer = `Bearer ${(await exchange()).body.access_token}`;
});

afterEach(() => order([]));

after(async () => {
  await standIn[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function exchange() {
  const scope = "https://www.googleapis.com/auth/firebase.messaging";
  const jwt = new SignJWT({ scope }).setProtectedHeader({ alg: "RS256" }).setIssuer(key.client_email);
  const claims = jwt.setAudience("https://oauth2.googleapis.com/token").setIssuedAt().setExpirationTime("1h");
  const assertion = await claims.sign(createPrivateKey(key.private_key));
  const body = new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion });
  const response = await fetch(`${standIn.url}/token`, { method: "POST", body });
  return { status: response.status, body: (await response.json()) as Record<string, string> };
}

async function push(token: string, text = "text") {
  const response = await fetch(`${standIn.url}/v1/projects/${projectId}/messages:send`, {
    method: "POST",
    headers: { authorization: bearer },
    body: JSON.stringify({ message: { token, notification: { body: text } } }),
  });
  await response.body?.cancel();
  return response;
}

const statusesOf = async (tokens: string[]) => {
  const statuses: number[] = [];
  for (const token of tokens) statuses.push((await push(token)).status);
  return statuses;
};

async function order(faults: unknown, headers: Record<string, string> = { "content-type": "application/json" }) {
  const response = await fetch(`${standIn.url}/faults`, { method: "PUT", headers, body: JSON.stringify(faults) });
  return { status: response.status, body: (await response.json()) as { faults?: object[] } };
}

async function pushes(query = ""): Promise<LedgerEntry[]> {
  const response = await fetch(`${standIn.url}/pushes${query}`);
  return ((await response.json()) as { pushes: LedgerEntry[] }).pushes;
}

/** A request with any headers, as fetch() would not send it. */
function ask(
  path: string,
  headers: Record<string, string>,
  method = "GET",
  at = standIn.url,
): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request(`${at}${path}`, { method, headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on("error", reject).end(method === "PUT" ? "[]" : undefined);
  });
}

test("an ordered fault meets pushes to every token until it is taken away", async () => {
  await order([{ fault: "quota", retryAfterSeconds: 7 }]);
  const refused = await push("a");
  assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "7"]);
  assert.equal((await push("slow-5-a")).status, 429, "it goes before what the prefix asks for");
  const response = await fetch(`${standIn.url}/faults`, { method: "DELETE" });
  assert.deepEqual(await response.json(), { faults: [] });
  assert.equal((await push("a")).status, 200);
});

test("each ordered fault is refused as the prefix of its name is", async () => {
  const expected = {
    unregistered: 404,
    invalid: 400,
    "sender-mismatch": 403,
    internal: 500,
    unavailable: 503,
    apns: 401,
  };
  for (const [fault, status] of Object.entries(expected)) {
    assert.equal((await order([{ fault }])).status, 200);
    assert.equal((await push("a")).status, status, fault);
  }
});

test("an ordered fault meets one token, a share of the pushes, or so many of them, and is counted", async () => {
  await order([{ fault: "internal", token: "a" }]);
  assert.deepEqual(await statusesOf(["a", "b", "a"]), [500, 200, 500]);
  await order([{ fault: "unavailable", share: 0.5 }]);
  assert.deepEqual(await statusesOf(["a", "a", "a", "a"]), [200, 503, 200, 503]);
  await order([
    { fault: "internal", times: 2 },
    { fault: "apns", times: 1 },
  ]);
  assert.deepEqual(await statusesOf(["a", "b", "a", "b"]), [500, 500, 401, 200]);
  const response = await fetch(`${standIn.url}/faults`);
  const { faults } = (await response.json()) as { faults: { hits: number }[] };
  assert.deepEqual(
    faults.map(({ hits }) => hits),
    [2, 1],
  );
});

test("what is answered late or never was accepted all the same", async () => {
  await order([
    { fault: "dropped", token: "lost" },
    { fault: "slow", delayMs: 20 },
  ]);
  await assert.rejects(push("lost", "lost answer"));
  assert.equal((await push("late", "late answer")).status, 200);
  const texts = (await pushes()).slice(0, 2).map(({ message }) => (message.notification as { body: string }).body);
  assert.deepEqual(texts, ["late answer", "lost answer"]);
});

test("a key that is refused gets no token and pushes nothing; a token endpoint that is down pushes on", async () => {
  await order([{ fault: "key-refused" }]);
  const { status, body } = await exchange();
  assert.deepEqual([status, body.error], [400, "invalid_grant"]);
  assert.equal((await push("a")).status, 401);
  await order([{ fault: "key-unavailable" }]);
  assert.equal((await exchange()).status, 503);
  assert.equal((await push("a")).status, 200);
});

test("faults that are none are refused, and what was ordered stays", async () => {
  await order([{ fault: "internal" }]);
  for (const wrong of [
    {},
    "internal",
    [{ fault: "flood" }],
    [{ fault: "quota", share: 2 }],
    [{ fault: "slow", x: 1 }],
  ]) {
    assert.equal((await order(wrong)).status, 400, JSON.stringify(wrong));
  }
  assert.equal((await push("a")).status, 500);
});

test("the newest 100 pushes are told, the newest first, of one token where it is asked for, also after a restart", async () => {
  await Promise.all(Array.from({ length: 101 }, () => push("many")));
  await push("one", "the last");
  assert.equal((await pushes()).length, 100);
  assert.deepEqual((await pushes())[0]?.token, "one");
  assert.equal((await pushes("?token=many")).length, 100);
  await standIn[Symbol.asyncDispose]();
  standIn = await start();
  const [last, ...others] = await pushes("?token=one");
  assert.deepEqual([last?.message.notification, others], [{ body: "the last" }, []]);
});

test("S-WEB-02 pages of other sites are told nothing and change nothing", async () => {
  const { host } = new URL(standIn.url);
  await push("a");
  await order([{ fault: "internal", token: "nobody" }]);
  const foreign: Record<string, string>[] = [
    { host, origin: "https://evil.example" },
    { host, origin: "null" },
    { host, "sec-fetch-site": "cross-site" },
    { host, "sec-fetch-site": "same-site" },
    { host: "rebound.example" },
    { host: host.replace("127.0.0.1", "rebound.example") },
  ];
  for (const headers of foreign) {
    for (const path of ["/", "/page.js", "/pushes", "/faults"]) {
      assert.equal(await ask(path, headers), 403, `${path} ${JSON.stringify(headers)}`);
    }
    const json = { ...headers, "content-type": "application/json" };
    assert.equal(await ask("/faults", json, "PUT"), 403);
    assert.equal(await ask("/faults", headers, "DELETE"), 403);
  }
  assert.equal((await order([], { "content-type": "text/plain" })).status, 415, "which any page may send");
  const response = await fetch(`${standIn.url}/faults`);
  assert.equal(((await response.json()) as { faults: object[] }).faults.length, 1);
  const own = { host, origin: standIn.url, "sec-fetch-site": "same-origin" };
  assert.equal(await ask("/pushes", own), 200);
});

test("in a network it is told a name by which others reach it, and answers to no other", async () => {
  const ledgerFile = join(folder, "network.jsonl");
  const account = { projectId, serviceAccount: identityOf(key) };
  await using named = await startPushStandIn({ ledgerFile, clock: systemClock, ...account, names: ["push-stand-in"] });
  const { port } = new URL(named.url);
  assert.equal(await ask("/pushes", { host: `push-stand-in:${port}` }, "GET", named.url), 200);
  assert.equal(await ask("/pushes", { host: `other:${port}` }, "GET", named.url), 403);
  assert.equal(await ask("/pushes", { host: `push-stand-in:${new URL(standIn.url).port}` }), 403);
});

test("the page runs its own script only, and is put into no frame", async () => {
  const response = await fetch(standIn.url);
  const html = await response.text();
  assert.match(html, /<script src="\/page\.js" type="module"><\/script>/);
  assert.doesNotMatch(html, /<script(?! src)|<style| on\w+=/i);
  const policy = response.headers.get("content-security-policy") ?? "";
  assert.match(policy, /^default-src 'none'; script-src 'self'; .*frame-ancestors 'none'$/);
  assert.doesNotMatch(policy, /unsafe/);
  const script = await fetch(`${standIn.url}/page.js`);
  assert.match(script.headers.get("content-type") ?? "", /^text\/javascript/);
  assert.doesNotMatch(await script.text(), /innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b/);
});
