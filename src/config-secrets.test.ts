/** What a secret must be in each mode, and that no value is ever in a message. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeVariables, loadConfig, secret, secretVariables } from "./config.ts";
import { type Env, everything, type Files, goodEnv, load, problemsOf, services } from "./testing/config-cases.ts";
import { type GeneratedKind, strongSecret, weakSecrets } from "./testing/secret-cases.ts";

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
        variable.type.safeParse(undefined).success ? [] : [`${name} is missing`],
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
