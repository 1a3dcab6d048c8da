/** What the sender's variables let through, mode by mode. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { loadConfig } from "../../config.ts";
import { createServiceAccount } from "../../dev/push-stand-in.ts";
import { ExitCode, StartupError } from "../../errors.ts";
import { createServiceKey } from "../../token/key-making.ts";
import { config } from "./config.ts";

const account = createServiceAccount("concierge-test");

async function load(mode: string, changes: Record<string, string> = {}) {
  const prefix = "CONCIERGE_NOTIFICATION_SENDER_";
  const keys = [createServiceKey("notification-sender", "notification", "service")];
  const variables = {
    SERVICE_KEYS: JSON.stringify({ keys }),
    FIREBASE_CREDENTIALS: JSON.stringify(await account),
    ...changes,
  };
  const env = Object.fromEntries(Object.entries(variables).map(([name, value]) => [prefix + name, value]));
  const { services } = loadConfig({
    env: { CONCIERGE_MODE: mode, ...env },
    readFile: () => "",
    stat: () => ({ mode: 0o600 }),
    services: { "notification-sender": config },
    start: ["notification-sender"],
  });
  return services["notification-sender"];
}

test("a key file of Google's is good for production, and everything else has a default", async () => {
  const { pollMs, batchSize, lanes, leaseSeconds, pushEndpoint, firebaseCredentials } = await load("production");
  assert.deepEqual(
    { pollMs, batchSize, lanes, leaseSeconds, pushEndpoint },
    {
      ...{ pollMs: 1_000, batchSize: 250, lanes: 2, leaseSeconds: 15, pushEndpoint: undefined },
    },
  );
  assert.deepEqual(firebaseCredentials, await account);
});

test("S-CFG-04 the push stand-in is refused in production and allowed in the demo", async () => {
  const standIn = { PUSH_ENDPOINT: "http://127.0.0.1:9099" };
  await assert.rejects(
    () => load("production", standIn),
    /CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT must not be set/,
  );
  assert.equal((await load("demo", standIn)).pushEndpoint, standIn.PUSH_ENDPOINT);
});

test("S-NOT-11 credentials that are none stop the start without a word of them", async () => {
  const key = await account;
  const brokenKeys = [
    "canary{",
    '{"private_key": "canary',
    '"canary"',
    '{"client_email": "canary"}',
    JSON.stringify({ ...key, type: "canary" }),
    JSON.stringify({ ...key, project_id: undefined, private_key_id: "canary" }),
    JSON.stringify({ ...key, private_key: ["canary"] }),
    JSON.stringify({ ...key, private_key: "canary" }),
    JSON.stringify({ ...key, private_key: "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n" }),
  ];
  for (const text of brokenKeys) {
    await assert.rejects(
      () => load("development", { FIREBASE_CREDENTIALS: text }),
      (error) => {
        assert.ok(error instanceof StartupError);
        assert.equal(error.exitCode, ExitCode.config);
        assert.match(error.message, /FIREBASE_CREDENTIALS/);
        assert.ok(!inspect(error, { depth: null, showHidden: true }).includes("canary"));
        return true;
      },
    );
  }
});

test("a lease must be long enough to claim, look again and begin to push", async () => {
  await assert.rejects(() => load("development", { LEASE_SECONDS: "14" }), /LEASE_SECONDS/);
  assert.equal((await load("development", { LEASE_SECONDS: "15" })).leaseSeconds, 15);
});
