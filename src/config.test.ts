/** What loading promises: order of sources, all problems at once, closed names, and an example of every variable. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { describeVariables, renderEnvExample, secretVariables, setting } from "./config.ts";
import { everything, goodEnv, load, problemsOf, services } from "./testing/config-cases.ts";
import { strongSecret } from "./testing/secret-cases.ts";

test("order: default < YAML < environment < file", () => {
  const yaml =
    "auth:\n  accessTokenSeconds: 100\nnotification:\n  pageSize: 10\nnotification-sender:\n  pollSeconds: 7\n";
  const env = { ...goodEnv("production"), CONCIERGE_CONFIG: "/c.yaml", CONCIERGE_NOTIFICATION_PAGE_SIZE: "20" };
  const files = { "/c.yaml": yaml, "/poll": " 9 \n" };
  const config = load(everything, { ...env, CONCIERGE_NOTIFICATION_SENDER_POLL_SECONDS_FILE: "/poll" }, files);
  assert.equal(config.services.auth.accessTokenSeconds, 100);
  assert.equal(config.services.notification.pageSize, 20);
  assert.equal(config.services["notification-sender"].pollSeconds, 9);
  assert.equal(load(everything, goodEnv("production")).services.auth.accessTokenSeconds, 300);
});

test("values are typed: lists, flags, rings, key sets", () => {
  const env = { ...goodEnv("development"), CONCIERGE_AUTH_AUDIENCES: "a, b", CONCIERGE_AUTH_RATE_LIMIT: "no" };
  const { auth: values } = load(["auth"], env).services;
  const audiences: string[] = values.audiences;
  assert.deepEqual(audiences, ["a", "b"]);
  const url: string = values.databaseUrl;
  assert.match(url, /^postgres:/);
  assert.equal(values.rateLimit, false);
  assert.equal(values.serviceKeys.keys[0]?.kind, "service");
  assert.equal(values.signingKeys.keys[0]?.crv, "P-256");
});

test("YAML: text stays text, lists and structured secrets are read", () => {
  const key = JSON.parse(strongSecret("serviceKeys")) as { keys: object[] };
  const yaml = `auth:\n  audiences: [0123, no]\n  serviceKeys: ${JSON.stringify(key)}\nnotification:\nconcierge:\n  publicPort: 9\n`;
  const env = { ...goodEnv("production"), CONCIERGE_AUTH_SERVICE_KEYS: undefined, CONCIERGE_CONFIG: "/c" };
  const config = load(["auth"], env, { "/c": yaml });
  assert.deepEqual(config.services.auth.audiences, ["0123", "no"]);
  assert.deepEqual(config.services.auth.serviceKeys, key);
  assert.equal(config.platform.publicPort, 9);
});

test("closed by default: production mode, loopback, no reflection", () => {
  const env = { ...goodEnv("production"), CONCIERGE_MODE: undefined };
  const { platform } = load(["auth"], env);
  assert.equal(platform.mode, "production");
  assert.equal(platform.host, "127.0.0.1");
  assert.equal(platform.reflection, false);
  assert.equal(load(["auth"], goodEnv("development")).platform.reflection, true);
});

test("only the started services' missing values are problems, but wrong ones always are", () => {
  const { CONCIERGE_NOTIFICATION_SENDER_CURSOR_KEY: cursorKey } = goodEnv("production");
  const env = { CONCIERGE_NOTIFICATION_SENDER_CURSOR_KEY: cursorKey };
  const config = load(["notification-sender"], env);
  assert.deepEqual(Object.keys(config.services), ["notification-sender"]);
  const problems = problemsOf(() =>
    load(["notification-sender"], { ...env, CONCIERGE_AUTH_DATABASE_URL: "mysql://x" }),
  );
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /^CONCIERGE_AUTH_DATABASE_URL: must be a PostgreSQL URL/);
});

test("an empty value is the same as none", () => {
  const env = { ...goodEnv("production"), CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: "", CONCIERGE_AUTH_DATABASE_URL: " " };
  assert.deepEqual(
    problemsOf(() => load(["auth"], env)),
    ["CONCIERGE_AUTH_DATABASE_URL is missing"],
  );
});

test("every problem is reported at once, a line each", () => {
  const env = {
    CONCIERGE_CONFIG: "/c",
    CONCIERGE_MODE: "prod",
    CONCIERGE_PUBLIC_PORT: "70000",
    CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: "0",
    CONCIERGE_AUTH_DATABSE_URL: "x",
    CONCIERGE_AUTH_SIGNING_KEYS_FILE: "/missing",
    CONCIERGE_AUTH_SERVICE_KEYS: "{",
    CONCIERGE_NOTIFICATION_PAGE_SIZE: "1",
    CONCIERGE_NOTIFICATION_PAGE_SIZE_FILE: "/size",
  };
  const files = { "/c": "auht:\n  a: 1\nauth:\n  acessTokenSeconds: 5\nnotification: [1]\n", "/size": "2" };
  const problems = problemsOf(() => load(["auth"], env, files));
  for (const expected of [
    /^CONCIERGE_CONFIG: auht is not a known section \(did you mean auth\?\)$/,
    /^CONCIERGE_CONFIG: auth\.acessTokenSeconds is not a known key \(did you mean accessTokenSeconds\?\)$/,
    /^CONCIERGE_CONFIG: notification must be a map of keys and values$/,
    /^CONCIERGE_MODE: Invalid option: expected one of /,
    /^CONCIERGE_PUBLIC_PORT: Too big/,
    /^CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: Too small/,
    /^CONCIERGE_AUTH_DATABSE_URL is not a known variable \(did you mean CONCIERGE_AUTH_DATABASE_URL\?\)$/,
    /^CONCIERGE_AUTH_DATABASE_URL is missing$/,
    /^CONCIERGE_AUTH_SIGNING_KEYS_FILE names a file that cannot be read \(ENOENT\)$/,
    /^CONCIERGE_AUTH_SERVICE_KEYS: is not valid JSON$/,
    /^CONCIERGE_NOTIFICATION_PAGE_SIZE and CONCIERGE_NOTIFICATION_PAGE_SIZE_FILE are both set: keep one$/,
  ]) {
    assert.equal(problems.filter((problem) => expected.test(problem)).length, 1, `${expected}\n${problems.join("\n")}`);
  }
  assert.equal(problems.length, 11, problems.join("\n"));
});

test("unknown variables are refused; Kubernetes' service links with a hint; others' variables are ignored", () => {
  const env = {
    ...goodEnv("production"),
    PATH: "/bin",
    CONCIERGE: "x",
    CONCIERGE_FOO: "x",
    CONCIERGE_AUTH_SERVICE_HOST: "x",
  };
  assert.deepEqual(
    problemsOf(() => load(everything, env)),
    [
      "CONCIERGE_FOO is not a known variable",
      "CONCIERGE_AUTH_SERVICE_HOST is not a known variable (set by Kubernetes? use enableServiceLinks: false)",
    ],
  );
});

test("the longest service name owns a variable", () => {
  const env = { ...goodEnv("production"), CONCIERGE_NOTIFICATION_SENDER_PAGE_SIZE: "3" };
  assert.match(
    problemsOf(() => load(everything, env))[0]!,
    /^CONCIERGE_NOTIFICATION_SENDER_PAGE_SIZE is not a known variable$/,
  );
  const number = setting(z.coerce.number().default(1), "a number");
  assert.throws(
    () => describeVariables({ notification: { senderPause: number }, "notification-sender": {} }),
    /rename/,
  );
  assert.throws(
    () => describeVariables({ config: {}, a: { b: number }, "a-b": {}, x: { y: number, yFile: number } }),
    /rename one/,
  );
});

test("documentation: every variable with its default, and an example file that starts nothing by accident", () => {
  const rows = describeVariables(services);
  const row = (name: string) => rows.find((candidate) => candidate.name === name);
  assert.deepEqual(row("CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS"), {
    name: "CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS",
    service: "auth",
    secret: false,
    default: "300",
    description: "Life of an access token",
    required: false,
  });
  assert.equal(row("CONCIERGE_AUTH_DATABASE_URL")?.required, true);
  assert.equal(row("CONCIERGE_AUTH_DATABASE_URL")?.secret, true);
  assert.equal(row("CONCIERGE_NOTIFICATION_SENDER_ACCOUNT")?.required, false);
  assert.equal(row("CONCIERGE_AUTH_AUDIENCES")?.default, "concierge");

  const text = renderEnvExample(rows);
  assert.match(text, /^#CONCIERGE_MODE=production$/m);
  assert.match(text, /^CONCIERGE_AUTH_SIGNING_KEYS=$/m);
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const env = Object.fromEntries(lines.map((line) => line.split("=")));
  const missing = secretVariables(services).filter(({ variable }) => !variable.type.safeParse(undefined).success);
  assert.deepEqual(
    problemsOf(() => load(everything, env)),
    missing.map(({ name }) => `${name} is missing`),
  );
});
