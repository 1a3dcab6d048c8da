/** What loading promises: order of sources, all problems at once, closed names, and never a value in a message. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import {
  type ConfigShape,
  describeVariables,
  list,
  loadConfig,
  notInProduction,
  peerUrl,
  renderEnvExample,
  secret,
  secretVariables,
  setting,
} from "./config.ts";
import { StartupError } from "./errors.ts";
import { type GeneratedKind, strongSecret, weakSecrets } from "./testing/secret-cases.ts";

const auth = {
  databaseUrl: secret.databaseUrl("PostgreSQL URL of the run-time role"),
  accessTokenSeconds: setting(z.coerce.number().int().min(1).max(3600).default(300), "Life of an access token"),
  signingKeys: secret.jwks("Keys that sign access tokens"),
  serviceKeys: secret.serviceKeys("Keys of service tokens"),
  audiences: setting(list.default(["concierge"]), "Audiences that a login may ask for"),
  rateLimit: setting(z.stringbool().default(true), "Whether calls are limited"),
} satisfies ConfigShape;

const notification = {
  databaseUrl: secret.databaseUrl("PostgreSQL URL of the run-time role"),
  pageSize: setting(z.coerce.number().int().default(50), "Entries on a page"),
} satisfies ConfigShape;

const sender = {
  pollSeconds: setting(z.coerce.number().int().positive().default(5), "Pause between polls"),
  cursorKey: secret.text("Key that signs cursors"),
  authUrl: peerUrl("Internal listener of auth", { default: "http://127.0.0.1:50051" }),
  pushEndpoint: setting(z.url().optional(), "Push stand-in", {
    production: notInProduction("the push stand-in delivers nothing", { allowedInDemo: true }),
  }),
  testClock: setting(z.stringbool().default(false), "Settable clock", { production: notInProduction("a test clock") }),
  account: secret.json(z.object({ key: z.string("key must be text") }), "Service account", (v) => [v.key], {
    optional: true,
  }),
} satisfies ConfigShape;

const services = { auth, notification, "notification-sender": sender };
type Env = Record<string, string | undefined>;
type Files = Record<string, string | { text: string; mode: number }>;

function load<N extends keyof typeof services>(start: N[], env: Env, files: Files = {}) {
  const file = (path: string) => {
    const entry = files[path];
    if (entry === undefined) throw Object.assign(new Error(`ENOENT: no such file ${path}`), { code: "ENOENT" });
    return typeof entry === "string" ? { text: entry, mode: 0o100600 } : entry;
  };
  return loadConfig({ env, services, start, readFile: (path) => file(path).text, stat: (path) => file(path) });
}

const everything = ["auth", "notification", "notification-sender"] as (keyof typeof services)[];

function goodEnv(mode: string): Env {
  const secrets = secretVariables(services).filter(({ variable }) => variable.secret !== "json");
  const values = secrets.map(({ name, variable }) => [name, strongSecret(variable.secret as GeneratedKind)]);
  return { CONCIERGE_MODE: mode, ...Object.fromEntries(values) };
}

/** The problem lines of a refused start. */
function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, 78);
    return error.message
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}

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

const canary = "canary-9f3c1e7d";
const wrongValues: [string, string][] = [
  ["text", canary],
  ["a number before it", `12${canary}`],
  ["JSON text", `"${canary}"`],
  ["broken JSON", `{"keys": ["${canary}`],
  [
    "JSON with unknown fields",
    JSON.stringify({ [canary]: canary, keys: [{ [canary]: canary, secret: canary, kty: canary }] }),
  ],
  ["JSON with wrong types", JSON.stringify({ keys: { [canary]: [canary] } })],
  ["a foreign URL", `mysql://${canary}:${canary}@${canary}/x`],
  ["a broken URL", `postgres://u:${canary}@:::/%zz`],
  ["a database elsewhere", `postgres://${canary}:${canary}@db.example.com/x?sslmode=${canary}`],
  ["a peer elsewhere", `http://${canary}.example.com/`],
  ["a peer with a password", `https://u:${canary}@localhost/`],
];

for (const [what, value] of wrongValues) {
  test(`a value is never echoed: ${what}`, () => {
    const rows = describeVariables(services)
      .map((row) => row.name)
      .filter((name) => name !== "CONCIERGE_CONFIG");
    const yamlSections = Object.entries(services).map(([service, shape]) => {
      const entries = Object.keys(shape).map((key) => `  ${key}: {a: [${JSON.stringify(value)}], ${canary}: 1}`);
      return `${service}:\n${entries.join("\n")}\n`;
    });
    const runs: { env: Env; files?: Files }[] = [
      { env: Object.fromEntries(rows.map((name) => [name, value])) },
      { env: Object.fromEntries(rows.map((name) => [`${name}_FILE`, value])) },
      { env: Object.fromEntries(rows.map((name) => [`${name}_FILE`, "/f"])), files: { "/f": value } },
      { env: { CONCIERGE_CONFIG: value } },
      { env: { CONCIERGE_CONFIG: "/c" }, files: { "/c": value } },
      { env: { CONCIERGE_CONFIG: "/c" }, files: { "/c": yamlSections.join("") } },
      { env: { CONCIERGE_CONFIG: "/c" }, files: { "/c": `auth:\n  databaseUrl: "${canary}\n  x: *${canary}\n` } },
      { env: { CONCIERGE_CONFIG: "/c" }, files: { "/c": `auth:\n  databaseUrl: *${canary}\n` } },
      { env: { CONCIERGE_CONFIG: "/c" }, files: { "/c": `auth: !${canary} ${canary}\n` } },
    ];
    for (const mode of ["development", "production", canary]) {
      for (const { env, files } of runs) {
        const problems = problemsOf(() => load(everything, { CONCIERGE_MODE: mode, ...env }, files));
        assert.ok(problems.length > 0);
        assert.ok(!problems.join("\n").includes(canary), problems.join("\n"));
      }
    }
  });
}

for (const mode of ["production", "demo"]) {
  for (const { name, variable } of secretVariables(services)) {
    if (variable.secret === "json") continue;
    const kind = variable.secret as GeneratedKind;

    test(`S-CFG-01 ${mode}: ${name} missing, weak, doubled or readable by all is refused`, () => {
      const env = goodEnv(mode);
      assert.deepEqual(
        problemsOf(() => load(everything, env)),
        [],
      );
      assert.deepEqual(
        problemsOf(() => load(everything, { ...env, [name]: undefined })),
        [`${name} is missing`],
      );
      for (const { what, value } of weakSecrets(kind)) {
        const problems = problemsOf(() => load(everything, { ...env, [name]: value }));
        assert.ok(problems.length > 0, `accepted: ${what}`);
        for (const problem of problems) assert.ok(problem.startsWith(name) && !problem.includes(value), problem);
      }
      const inFile = { ...env, [name]: undefined, [`${name}_FILE`]: "/s" };
      const text = env[name]!;
      assert.deepEqual(
        problemsOf(() => load(everything, inFile, { "/s": { text, mode: 0o100640 } })),
        [],
      );
      const readable = problemsOf(() => load(everything, inFile, { "/s": { text, mode: 0o100644 } }));
      assert.equal(readable.length, 1);
      assert.match(readable[0]!, /every user can read/);
      assert.ok(readable[0]!.startsWith(name));
    });
  }
}

test("S-CFG-01 one secret in two variables is refused", () => {
  const env = goodEnv("production");
  const first = "CONCIERGE_AUTH_DATABASE_URL";
  const problems = problemsOf(() => load(everything, { ...env, CONCIERGE_NOTIFICATION_DATABASE_URL: env[first] }));
  assert.deepEqual(problems, [`CONCIERGE_NOTIFICATION_DATABASE_URL uses the same secret as ${first}`]);
  const password = new URL(env[first]!).password.padEnd(32, "Zq7");
  const url = `postgres://auth:${password}@localhost/auth`;
  const shared = { ...env, [first]: url, CONCIERGE_NOTIFICATION_SENDER_CURSOR_KEY: password };
  assert.deepEqual(
    problemsOf(() => load(everything, shared)),
    [`CONCIERGE_NOTIFICATION_SENDER_CURSOR_KEY uses the same secret as ${first}`],
  );
});

test("S-CFG-01 the key of a pair may stand in both parties' rings, a changed copy of it may not", () => {
  const keys = secret.serviceKeys("keys");
  const shapes = { auth: { keys }, user: { keys } };
  const ring = JSON.parse(strongSecret("serviceKeys")) as { keys: object[] };
  const run = (second: object) => () =>
    loadConfig({
      env: { CONCIERGE_AUTH_KEYS: JSON.stringify(ring), CONCIERGE_USER_KEYS: JSON.stringify(second) },
      services: shapes,
      start: ["auth", "user"],
      readFile: () => "",
      stat: () => ({ mode: 0 }),
    });
  assert.deepEqual(problemsOf(run(ring)), []);
  const renamed = { keys: [{ ...ring.keys[0], callee: "access" }] };
  assert.deepEqual(problemsOf(run(renamed)), ["CONCIERGE_USER_KEYS uses the same secret as CONCIERGE_AUTH_KEYS"]);
});

test("S-CFG-01 a secret in a YAML file that all can read is refused, settings there are not", () => {
  const env = { ...goodEnv("production"), CONCIERGE_CONFIG: "/c", CONCIERGE_AUTH_DATABASE_URL: undefined };
  const yaml = `auth:\n  databaseUrl: ${strongSecret("databaseUrl")}\n  accessTokenSeconds: 9\n`;
  assert.deepEqual(
    problemsOf(() => load(everything, env, { "/c": { text: yaml, mode: 0o644 } })),
    ["CONCIERGE_AUTH_DATABASE_URL stands in a file that every user can read: take away the permission (chmod o-r)"],
  );
  const settings = { "/c": { text: "auth:\n  accessTokenSeconds: 9\n", mode: 0o644 } };
  assert.deepEqual(
    problemsOf(() => load(everything, { ...goodEnv("production"), CONCIERGE_CONFIG: "/c" }, settings)),
    [],
  );
});

test("development takes weak secrets, but nothing that is not well formed", () => {
  const env = {
    ...goodEnv("development"),
    CONCIERGE_AUTH_DATABASE_URL: "postgres://postgres@db/auth",
    CONCIERGE_NOTIFICATION_SENDER_CURSOR_KEY: "changeme",
    CONCIERGE_NOTIFICATION_SENDER_ACCOUNT: '{"key":"x"}',
  };
  assert.deepEqual(
    problemsOf(() => load(everything, env)),
    [],
  );
  const broken = { ...env, CONCIERGE_AUTH_SIGNING_KEYS: '{"keys":[]}', CONCIERGE_NOTIFICATION_SENDER_ACCOUNT: "{}" };
  assert.deepEqual(
    problemsOf(() => load(everything, broken)),
    ["CONCIERGE_AUTH_SIGNING_KEYS: has no key", "CONCIERGE_NOTIFICATION_SENDER_ACCOUNT: key must be text"],
  );
});

const database = (host: string, query = "") =>
  strongSecret("databaseUrl").replace("127.0.0.1:5432", host).concat(query);
const risky: { what: string; name: string; value: () => string; flag?: string; demo: "refused" | "allowed" }[] = [
  {
    what: "a database without TLS",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("db.example.com"),
    flag: "CLEARTEXT_DATABASE",
    demo: "refused",
  },
  {
    what: "sslmode=disable",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("postgres", "?sslmode=disable"),
    flag: "CLEARTEXT_DATABASE",
    demo: "allowed",
  },
  {
    what: "sslmode=prefer",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("10.0.0.4:5432", "?sslmode=prefer"),
    flag: "CLEARTEXT_DATABASE",
    demo: "allowed",
  },
  {
    what: "one remote host of two",
    name: "CONCIERGE_AUTH_DATABASE_URL",
    value: () => database("127.0.0.1:5432,db.example.com:5432"),
    flag: "CLEARTEXT_DATABASE",
    demo: "refused",
  },
  {
    what: "a peer over http",
    name: "CONCIERGE_NOTIFICATION_SENDER_AUTH_URL",
    value: () => "http://auth.example.com:50051",
    flag: "CLEARTEXT_PEERS",
    demo: "refused",
  },
  {
    what: "a peer over http in the network",
    name: "CONCIERGE_NOTIFICATION_SENDER_AUTH_URL",
    value: () => "http://auth:50051",
    flag: "CLEARTEXT_PEERS",
    demo: "allowed",
  },
  {
    what: "a peer over http at an IPv6 address",
    name: "CONCIERGE_NOTIFICATION_SENDER_AUTH_URL",
    value: () => "http://[2001:db8::1]:80",
    flag: "CLEARTEXT_PEERS",
    demo: "refused",
  },
  { what: "reflection", name: "CONCIERGE_REFLECTION", value: () => "true", flag: "REFLECTION", demo: "refused" },
  {
    what: "S-CFG-04 the push stand-in",
    name: "CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT",
    value: () => "http://127.0.0.1:9",
    demo: "allowed",
  },
  {
    what: "S-CFG-04 the test clock",
    name: "CONCIERGE_NOTIFICATION_SENDER_TEST_CLOCK",
    value: () => "true",
    demo: "refused",
  },
];
const allFlags = describeVariables(services)
  .map((row) => row.name)
  .filter((name) => name.startsWith("CONCIERGE_RISK_"));

for (const { what, name, value, flag, demo } of risky) {
  test(`S-CFG-03 ${what} is refused in production`, () => {
    const env = { ...goodEnv("production"), [name]: value() };
    const flagName = flag === undefined ? undefined : `CONCIERGE_RISK_${flag}`;
    const problems = problemsOf(() => load(everything, env));
    assert.equal(problems.length, 1, problems.join("\n"));
    assert.ok(problems[0]!.startsWith(name) && !problems[0]!.includes(value()), problems[0]);
    if (flagName !== undefined) assert.match(problems[0]!, new RegExp(`take the risk: ${flagName}=accepted$`));

    for (const other of allFlags) {
      const withFlag = () => load(everything, { ...env, [other]: "accepted" });
      if (other !== flagName) assert.equal(problemsOf(withFlag).length, 1, `${other} lifted it`);
      else
        assert.deepEqual(
          withFlag().acceptedRisks.map((risk) => risk.name),
          [flagName],
        );
    }
    assert.equal(
      problemsOf(() => load(everything, { ...env, CONCIERGE_MODE: "demo" })).length,
      demo === "allowed" ? 0 : 1,
    );
    assert.deepEqual(
      problemsOf(() => load(everything, { ...env, CONCIERGE_MODE: "development" })),
      [],
    );
  });
}

test("S-CFG-03 what is encrypted or stays on this host needs no flag; a flag must say accepted", () => {
  const fine: Env[] = [
    { CONCIERGE_AUTH_DATABASE_URL: database("db.example.com", "?sslmode=verify-full") },
    { CONCIERGE_AUTH_DATABASE_URL: database("a.example.com:5432,b.example.com:5433", "?sslmode=require") },
    { CONCIERGE_AUTH_DATABASE_URL: database("[::1]:5432") },
    { CONCIERGE_AUTH_DATABASE_URL: database("localhost") },
    { CONCIERGE_NOTIFICATION_SENDER_AUTH_URL: "https://auth.example.com" },
    { CONCIERGE_NOTIFICATION_SENDER_AUTH_URL: "http://[::1]:50051" },
    { CONCIERGE_REFLECTION: "false" },
  ];
  for (const change of fine) {
    const problems = problemsOf(() => load(everything, { ...goodEnv("production"), ...change }));
    assert.deepEqual(problems, [], Object.keys(change)[0]);
  }
  const problems = problemsOf(() => load(everything, { ...goodEnv("production"), CONCIERGE_RISK_REFLECTION: "true" }));
  assert.deepEqual(problems, ['CONCIERGE_RISK_REFLECTION: Invalid input: expected "accepted"']);
});

test("S-CFG-06 no service keys, or both listeners on one port, is refused in every mode", () => {
  for (const mode of ["development", "demo", "production"]) {
    const env = { ...goodEnv(mode), CONCIERGE_PUBLIC_PORT: "9000", CONCIERGE_INTERNAL_PORT: "9000" };
    assert.deepEqual(
      problemsOf(() => load(everything, { ...env, CONCIERGE_AUTH_SERVICE_KEYS: '{"keys":[]}' })),
      ["CONCIERGE_AUTH_SERVICE_KEYS: has no key", "CONCIERGE_INTERNAL_PORT must differ from CONCIERGE_PUBLIC_PORT"],
    );
    const free = { ...env, CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
    assert.deepEqual(
      problemsOf(() => load(everything, free)),
      [],
    );
  }
});

test("S-HMAC-17 a short key, an equal secret for two pairs or a kid used twice is refused in every mode", () => {
  const key = () => (JSON.parse(strongSecret("serviceKeys")) as { keys: [Record<string, string>] }).keys[0];
  const [one, two] = [key(), key()];
  const short = Buffer.alloc(31, 200).toString("base64url");
  const cases: [object[], RegExp][] = [
    [[{ ...one, secret: short }], /entry 1: secret is shorter than 32 bytes/],
    [[one, { ...two, callee: "access", secret: one.secret }], /uses one secret for two keys/],
    [[one, { ...two, kid: one.kid }], /uses one kid for two keys/],
    [[one, { ...two, secret: `${two.secret}=` }], /entry 2: secret must be base64url/],
    [[{ ...one, kind: "root" }], /entry 1: kind must be/],
    [[{ ...one, note: "x" }], /entry 1: has an unknown field/],
    [[{ ...one, kid: undefined }], /entry 1: kid must be text/],
  ];
  for (const mode of ["development", "demo", "production"]) {
    const base = goodEnv(mode);
    const ring = (keys: object[]) => ({ ...base, CONCIERGE_AUTH_SERVICE_KEYS: JSON.stringify({ keys }) });
    assert.deepEqual(
      problemsOf(() => load(everything, ring([one, two]))),
      [],
    );
    for (const [keys, expected] of cases) {
      const problems = problemsOf(() => load(everything, ring(keys)));
      assert.match(problems.join("\n"), expected);
      assert.ok(
        problems.every((problem) => problem.startsWith("CONCIERGE_AUTH_SERVICE_KEYS")),
        problems.join("\n"),
      );
    }
  }
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
  const missing = secretVariables(services).filter(({ variable }) => variable.secret !== "json");
  assert.deepEqual(
    problemsOf(() => load(everything, env)),
    missing.map(({ name }) => `${name} is missing`),
  );
});
