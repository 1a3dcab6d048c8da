/** The configuration of the real services: every secret variable there is, in every way it may be unfit for production. */
import assert from "node:assert/strict";
import test from "node:test";
import { secretVariables } from "../config.ts";
import { createServiceAccount } from "../dev/push-stand-in-account.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { createLogger } from "../log.ts";
import { services } from "../services.ts";
import { type GeneratedKind, weakSecrets } from "../testing/secret-cases.ts";
import { createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "../token/key-making.ts";
import { configurationOf, databaseConfigurationOf, serviceShapes, servicesNamed } from "./configuration.ts";
import { remindOfRisks } from "./serve.ts";

const account = await createServiceAccount("concierge-test");
const good = await productionVariables();
const secrets = secretVariables(serviceShapes);
const MODES = ["production", "demo"];

/** What production accepts, all services together. */
async function productionVariables(): Promise<Record<string, string>> {
  const keys = pairsOf(services).map(({ caller, callee }) => createServiceKey(caller, callee, "service"));
  const url = (name: string, role: string) =>
    `postgres://${name}_${role}:${createServiceKey("a", "b", "service").secret}@127.0.0.1:5432/${name}`;
  const variables: Record<string, string> = {
    CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(await createSigningKeys("ES256")),
    CONCIERGE_AUTH_TOKEN_KEYS: JSON.stringify(createTokenKeys()),
    CONCIERGE_NOTIFICATION_SENDER_FIREBASE_CREDENTIALS: JSON.stringify(account),
  };
  for (const { name, hasDatabase, hasTenants } of services) {
    const prefix = `CONCIERGE_${name.replaceAll("-", "_").toUpperCase()}`;
    const own = keys.filter(({ caller, callee }) => caller === name || callee === name);
    if (own.length > 0) variables[`${prefix}_SERVICE_KEYS`] = JSON.stringify({ keys: own });
    if (!hasDatabase) continue;
    variables[`${prefix}_DATABASE_URL`] = url(name, "runtime");
    variables[`${prefix}_DATABASE_OWNER_URL`] = url(name, "owner");
    if (hasTenants) variables[`${prefix}_DATABASE_JOB_URL`] = url(name, "job");
  }
  return variables;
}

/** The lines of the refusal; none when it starts. */
function problemsOf(changes: Record<string, string | undefined>): string[] {
  try {
    configurationOf({ CONCIERGE_MODE: "production", ...good, ...changes }, services);
    return [];
  } catch (error) {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, ExitCode.config);
    return error.message.split("\n").slice(1);
  }
}

/** Of a Firebase key, the values beside those of any JSON: each has one fault. */
function weakCredentials() {
  const changed = (changes: object) => JSON.stringify({ ...account, ...changes });
  return [
    { what: "no JSON", value: "CANARY-{" },
    { what: "another type of credential", value: changed({ type: "external_account" }) },
    { what: "no project", value: changed({ project_id: "" }) },
    { what: "no private key", value: changed({ private_key: undefined }) },
    { what: "a private key that is none", value: changed({ private_key: "changeme-changeme-changeme-changeme" }) },
  ];
}

test("S-CFG-01 what the other cases change starts as it is", () => {
  for (const mode of MODES) assert.deepEqual(problemsOf({ CONCIERGE_MODE: mode }), []);
  assert.deepEqual(problemsOf({ CONCIERGE_MODE: undefined }), []);
  assert.ok(secrets.length >= 16, "every service has secrets");
});

for (const { name, variable } of secrets) {
  const weak = variable.secret === "json" ? weakCredentials() : weakSecrets(variable.secret as GeneratedKind);
  test(`S-CFG-01 ${name}: missing`, () => {
    const isNeeded = !variable.type.safeParse(undefined).success;
    for (const empty of [undefined, "", "  "]) {
      assert.deepEqual(problemsOf({ [name]: empty }), isNeeded ? [`  ${name} is missing`] : []);
    }
  });
  for (const { what, value } of weak) {
    test(`S-CFG-01 ${name}: ${what}`, () => {
      for (const mode of MODES) {
        const lines = problemsOf({ CONCIERGE_MODE: mode, [name]: value });
        assert.ok(lines.length > 0, `${mode} started`);
        for (const line of lines) {
          assert.ok(line.startsWith(`  ${name}`), line);
          assert.ok(!line.includes(value) && !line.includes("CANARY"), "the value is in the message");
        }
      }
    });
  }
}

test("S-CFG-01 every problem is named at once, those of the platform too", () => {
  const missing = secrets.filter(({ variable }) => !variable.type.safeParse(undefined).success);
  const changes = Object.fromEntries(missing.map(({ name }) => [name, undefined]));
  const lines = problemsOf({ ...changes, CONCIERGE_PUBLIC_PORT: "http", CONCIERGE_TYPO: "1" });
  assert.equal(lines.length, missing.length + 2, lines.join("\n"));
});

test("S-CFG-03 S-CFG-04 of the real services: what production refuses, and which flag lifts it", () => {
  const peers = services.flatMap(({ name, peers }) => Object.keys(peers).map((peer) => ({ name, peer })));
  const cases = [
    ...peers.map(({ name, peer }) => {
      const variable = `CONCIERGE_${name}_${peer}_URL`.replaceAll("-", "_").toUpperCase();
      return { variable, value: "http://peer.example.com:50051", flag: "CONCIERGE_RISK_CLEARTEXT_PEERS" };
    }),
    ...secrets
      .filter(({ variable }) => variable.secret === "databaseUrl")
      .map(({ name }) => {
        const value = good[name]!.replace("127.0.0.1", "db.example.com");
        return { variable: name, value, flag: "CONCIERGE_RISK_CLEARTEXT_DATABASE" };
      }),
    { variable: "CONCIERGE_REFLECTION", value: "true", flag: "CONCIERGE_RISK_REFLECTION" },
    { variable: "CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT", value: "http://127.0.0.1:9", flag: undefined },
  ];
  assert.ok(cases.length >= 14);
  const flags = [...new Set(cases.flatMap(({ flag }) => (flag ? [flag] : [])))];
  for (const { variable, value, flag } of cases) {
    const [line, ...more] = problemsOf({ [variable]: value });
    assert.ok(line?.startsWith(`  ${variable} `) && more.length === 0, `${variable}: ${line}`);
    assert.ok(!line?.includes(value), line);
    for (const other of flags) {
      const left = problemsOf({ [variable]: value, [other]: "accepted" });
      assert.equal(left.length, other === flag ? 0 : 1, `${variable} with ${other}`);
    }
  }
});

test("S-CFG-03 an accepted risk is said at WARN at start and each hour", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const lines: { level: string; risk?: string; msg: string }[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const env = { CONCIERGE_MODE: "production", ...good, CONCIERGE_RISK_REFLECTION: "accepted" };
  const configuration = configurationOf(env, services);
  {
    using _reminder = remindOfRisks(configuration, createLogger({ level: "info", mode: "production", destination }));
    for (const hours of [1, 2, 3]) {
      assert.deepEqual(
        lines.map(({ level, risk }) => `${level} ${risk}`),
        Array(hours).fill("warn CONCIERGE_RISK_REFLECTION"),
      );
      t.mock.timers.tick(3_600_000);
    }
    assert.match(lines[0]!.msg, /reflection is on in production/);
  }
  t.mock.timers.tick(3_600_000);
  assert.equal(lines.length, 4, "no reminder after the end");
});

test("S-CFG-06 S-HMAC-17 service keys: none, a short one, one for two pairs, one kid twice", () => {
  const name = "CONCIERGE_AUTH_SERVICE_KEYS";
  const [one, two] = (JSON.parse(good[name]!) as { keys: { secret: string; kid: string }[] }).keys;
  const rings = [
    [],
    [{ ...one, secret: Buffer.alloc(31, 200).toString("base64url") }],
    [one, { ...two, secret: one!.secret }],
    [one, { ...two, kid: one!.kid }],
  ];
  for (const mode of ["development", ...MODES]) {
    for (const keys of rings) {
      const lines = problemsOf({ CONCIERGE_MODE: mode, [name]: JSON.stringify({ keys }) });
      assert.ok(lines.length > 0 && lines.every((line) => line.startsWith(`  ${name}`)), `${mode}: ${lines}`);
    }
  }
});

test("S-HMAC-17 one service's secret used for another pair in another service's ring", () => {
  const [key] = (JSON.parse(good.CONCIERGE_AUTH_SERVICE_KEYS!) as { keys: { secret: string }[] }).keys;
  const other = { ...createServiceKey("user", "access", "service"), secret: key!.secret };
  const lines = problemsOf({ CONCIERGE_ACCESS_SERVICE_KEYS: JSON.stringify({ keys: [other] }) });
  assert.ok(lines.length > 0);
  for (const line of lines) assert.match(line, /uses the same secret as/);
});

test("who migrates needs the two database URLs and no key; what is set is checked all the same", () => {
  const definitions = servicesNamed(["auth"]);
  const both = {
    CONCIERGE_AUTH_DATABASE_URL: good.CONCIERGE_AUTH_DATABASE_URL,
    CONCIERGE_AUTH_DATABASE_OWNER_URL: good.CONCIERGE_AUTH_DATABASE_OWNER_URL,
  };
  const { values, ...urls } = databaseConfigurationOf(both, definitions)[0]!;
  assert.equal(values.signingKeys, undefined);
  assert.deepEqual(urls, {
    name: "auth",
    runtimeUrl: both.CONCIERGE_AUTH_DATABASE_URL,
    ownerUrl: both.CONCIERGE_AUTH_DATABASE_OWNER_URL,
    jobUrl: undefined,
  });
  assert.throws(() => databaseConfigurationOf({}, definitions), {
    message:
      "configuration refused, 2 problems:\n  CONCIERGE_AUTH_DATABASE_URL is missing\n  CONCIERGE_AUTH_DATABASE_OWNER_URL is missing",
  });
  const weak = { ...both, CONCIERGE_AUTH_DATABASE_OWNER_URL: "postgres://owner:postgres@127.0.0.1/auth" };
  assert.throws(() => databaseConfigurationOf(weak, definitions), /CONCIERGE_AUTH_DATABASE_OWNER_URL: password/);
});

test("a service that is named twice runs once, an unknown one is named with those there are", () => {
  assert.deepEqual(
    servicesNamed(["auth", "greeter", "auth"]).map(({ name }) => name),
    ["auth", "greeter"],
  );
  assert.throws(() => servicesNamed(["atuh"]), { exitCode: ExitCode.usage, message: /"atuh"; there are auth, access/ });
});
