/** `concierge doctor` over a running system: nothing is wrong, then one thing at a time, and each has its line. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "../clock.ts";
import { type ServiceKey, snakeCase } from "../config.ts";
import { connect } from "../db/connection.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { identityOf, type PushStandIn, startPushStandIn } from "../dev/push-stand-in.ts";
import { peerVariables } from "../dev/variables.ts";
import { examineServices } from "../doctor/examination.ts";
import { ExitCode } from "../errors.ts";
import { services } from "../services.ts";
import { createTestCertificates } from "../testing/certificates.ts";
import { freePort, runHere, startCommand } from "../testing/command.ts";
import { testEnvironment } from "../testing/environment.ts";
import { type MailServer, startMailServer } from "../testing/mail-server.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import { configurationOf } from "./configuration.ts";

type Variables = Record<string, string>;

const CANARY = "canary-that-nobody-may-see-0123456789";

const opened = new AsyncDisposableStack();
let variables: Variables;
let folder: string;
let standIn: PushStandIn;
let mailServer: MailServer;
/** What is said of the system as it is: the server of tests may forget what it acknowledged. */
let usual: string[];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "concierge-doctor-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const environment = opened.use(await testEnvironment(services));
  const account = JSON.parse(environment.variables.CONCIERGE_NOTIFICATION_SENDER_FIREBASE_CREDENTIALS!);
  const projectId = account.project_id;
  const ledgerFile = join(folder, "ledger.jsonl");
  const serviceAccount = identityOf(account);
  standIn = opened.use(await startPushStandIn({ ledgerFile, clock: systemClock, serviceAccount, projectId }));
  mailServer = opened.use(await startMailServer());
  const system = {
    ...environment.variables,
    CONCIERGE_MODE: "development",
    CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT: standIn.url,
    CONCIERGE_AUTH_SMTP_URL: mailServer.url,
    CONCIERGE_AUTH_MAIL_FROM: "hello@example.com",
    CONCIERGE_AUTH_LINK_BASE_URL: "http://127.0.0.1:3000",
  };
  const internalUrl = await startEverything(system);
  variables = { ...system, ...Object.assign({}, ...services.map((one) => peerVariables(one, () => internalUrl))) };
  usual = (await examine(variables)).unusual;
});

after(() => opened.disposeAsync());

/** In a process of its own, so that nobody's work keeps it from being ready. Returns where the internal listener is. */
async function startEverything(env: Variables): Promise<string> {
  const ports = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0", CONCIERGE_DRAIN_SECONDS: "0" };
  const command = opened.use(startCommand(["serve", ...services.map(({ name }) => name)], { ...env, ...ports }));
  const [, url] = await command.printed(/"internalUrl":"([^"]+)"/);
  await until("it is ready", async () => (await fetch(`${url}/readyz`)).ok, 30_000);
  return url!;
}

/** What the doctor says, with the lines that are no "ok". */
async function examine(env: Variables, names: string[] = []) {
  const { code, stdout, stderr } = await runHere(["doctor", ...names], env);
  const lines = stdout.split("\n").filter((line) => line !== "");
  const secrets = [CANARY, mailServer.password, ...Object.values(env).flatMap(secretsIn)];
  for (const secret of secrets) assert.ok(!`${stdout}${stderr}`.includes(secret), "a secret was printed");
  return { code, lines, stderr, unusual: lines.filter((line) => !line.startsWith("ok ")) };
}

/** Passwords of URLs, and the secrets of key rings. */
function secretsIn(value: string): string[] {
  if (URL.canParse(value)) return [new URL(value).password].filter((password) => password !== "");
  return [...value.matchAll(/"(?:secret|d|private_key)":"([^"]{20,})"/g)].map(([, secret]) => secret!);
}

/** The lines that this change brings. */
async function findingsWith(changes: Variables, names: string[] = []) {
  const { code, unusual } = await examine({ ...variables, ...changes }, names);
  return { code, lines: unusual.filter((line) => !usual.includes(line)) };
}

async function findsOnly(changes: Variables, code: ExitCode, ...patterns: RegExp[]): Promise<void> {
  const found = await findingsWith(changes);
  assert.equal(found.lines.length, patterns.length, found.lines.join("\n"));
  for (const [index, pattern] of patterns.entries()) assert.match(found.lines[index]!, pattern);
  assert.equal(found.code, code);
}

test("doctor: a system that runs has no problem", async () => {
  const { code, lines, unusual, stderr } = await examine(variables);
  assert.deepEqual([code, stderr], [ExitCode.ok, ""], unusual.join("\n"));
  for (const line of unusual) assert.match(line, /^warning \w+ database: fsync.* off/);
  const said = lines.join("\n");
  assert.match(said, /^ok configuration: mode development$/m);
  assert.match(said, /^ok user database: PostgreSQL \d+\S*, and the schema is that of this version$/m);
  assert.match(said, /^ok user database: a process opens up to 12 connections, .*: room for \d+ processes$/m);
  assert.match(said, /^ok user database: 0 events wait for their place in the feed$/m);
  assert.match(said, /^ok user database clock: agrees with ours$/m);
  assert.match(said, /^ok auth service keys: one for each pair, \d+ in all$/m);
  assert.match(said, /^ok auth signing keys: 1 key$/m);
  assert.match(said, /^ok user to auth: is ready, and takes our key$/m);
  assert.match(said, /^ok Firebase: a stand-in gives an access token$/m);
  assert.match(said, /^ok mails: the mail server lets us in$/m);
});

test("doctor --json: a line of JSON each", async () => {
  const { stdout } = await runHere(["doctor", "greeter", "--json"], variables);
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(lines[0], { what: "configuration", level: "ok", finding: "mode development" });
});

test("doctor: services that are named together are of one process, and do not call each other", async () => {
  const { lines } = await examine(variables, ["user", "auth"]);
  assert.ok(!lines.some((line) => line.includes("user to auth")));
  assert.ok(lines.some((line) => line.startsWith("ok auth to access: ")));
});

describe("doctor: configuration", () => {
  test("every problem is a line, and no value is in any", async () => {
    const { code, lines, stderr } = await examine(
      {
        CONCIERGE_USER_DATABASE_URL: `mysql://user:${CANARY}@db/user`,
        CONCIERGE_LOG_LEVEL: CANARY,
      },
      ["user"],
    );
    assert.equal(code, ExitCode.config);
    assert.match(lines.join("\n"), /^problem configuration: CONCIERGE_USER_DATABASE_URL: must be a PostgreSQL URL/m);
    assert.match(lines.join("\n"), /^problem configuration: CONCIERGE_USER_SERVICE_KEYS is missing$/m);
    assert.match(lines.join("\n"), /^problem configuration: CONCIERGE_LOG_LEVEL: /m);
    assert.match(stderr, /^concierge: 3 problems found$/m);
  });

  test("a key file that every user can read", async () => {
    const file = join(folder, "user.json");
    await writeFile(file, variables.CONCIERGE_USER_SERVICE_KEYS!);
    await chmod(file, 0o644);
    const { CONCIERGE_USER_SERVICE_KEYS: _, ...others } = variables;
    const { code, unusual } = await examine({
      ...others,
      CONCIERGE_MODE: "demo",
      CONCIERGE_USER_SERVICE_KEYS_FILE: file,
    });
    assert.equal(code, ExitCode.config);
    assert.ok(
      unusual.some((line) => /SERVICE_KEYS stands in a file that every user can read/.test(line)),
      unusual.join("\n"),
    );
  });
});

describe("doctor: databases", () => {
  const replaced = (change: (url: URL) => void) => {
    const url = new URL(variables.CONCIERGE_USER_DATABASE_URL!);
    change(url);
    return { CONCIERGE_USER_DATABASE_URL: url.href };
  };
  const says = (text: string) => new RegExp(`^problem user database: ${text}`);

  test("a wrong password", async () => {
    const refused = "the database refuses the login \\(SQLSTATE 28P01\\)";
    const wrong = replaced((url) => Object.assign(url, { password: CANARY }));
    await findsOnly(wrong, ExitCode.config, says(refused));
  });

  test("a server that is not there", async () => {
    const port = String(await freePort());
    const away = replaced((url) => Object.assign(url, { port }));
    const text = "the database is not available; see whether it runs";
    await findsOnly(away, ExitCode.unavailable, says(text));
  });

  test("a schema that is not migrated, a role that owns tables, events that wait and events that are parked", async () => {
    await using environment = await testEnvironment(services.filter(({ name }) => name === "user"));
    const { runtimeUrl, ownerUrl } = environment.database("user");
    const owner = connect(ownerUrl, { applicationName: "test" });
    await owner`insert into feed_outbox (type, subject, version, payload, created_at)
      values ('a', 'a', 1, '', now() - interval '1 minute')`;
    await owner`insert into feed_parked (source, event_id, type, subject, version, position, created_at, payload)
      values ('auth', 'auth/1', 'a', 'a', 1, 1, now(), '')`;
    const sick = { CONCIERGE_USER_DATABASE_URL: runtimeUrl };
    await findsOnly(
      sick,
      ExitCode.ok,
      /user database: 1 events wait .* oldest for 6\d s; start/,
      /1 events of auth are parked/,
    );
    const asOwner = await findingsWith({ CONCIERGE_USER_DATABASE_URL: ownerUrl });
    assert.match(asOwner.lines[0]!, /^warning user database: its role owns \d+ tables; let another role own them/);
    await owner`delete from concierge_migration where series = 'user'`;
    await owner.end();
    await findsOnly(sick, ExitCode.config, says(".* user/0000_\\w+\\.sql: not applied; run `concierge migrate`"));
  });

  test("a pool for which the server has no room", async () => {
    const { lines } = await findingsWith({ CONCIERGE_USER_DATABASE_POOL_SIZE: "200" });
    assert.match(lines[0]!, says("a process opens up to 202 connections, .*; raise max_connections"));
  });

  test("a clock that differs", async () => {
    let aheadMs = 0;
    const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
    const load = () => configurationOf(variables, services);
    const definitions = services.filter(({ name }) => name === "user");
    const at = async (ms: number) => {
      aheadMs += ms;
      const options = { definitions, isOneProcess: false, migrationsFolder: MIGRATIONS_FOLDER, load, clock };
      const lines = await examineServices(options);
      return lines.filter(({ level, finding }) => level !== "ok" && !finding.startsWith("fsync"));
    };
    assert.deepEqual(await at(0), []);
    const [warned, ...others] = await at(4_000);
    assert.match(
      `${warned!.level} ${warned!.what} ${warned!.finding}`,
      /^warning user database clock [1-4]\.\d s behind ours$/,
    );
    assert.ok(others.every(({ level }) => level === "warning"));
    const wrong = await at(30_000);
    assert.ok(wrong.every(({ level, finding }) => level === "problem" && /^3\d\.\d s behind ours$/.test(finding)));
    assert.ok(
      wrong.some(({ what }) => what === "user to auth"),
      "a token that is refused for its time is no unknown key",
    );
  });
});

describe("doctor: keys and peers", () => {
  const ringOf = (name: string): ServiceKey[] => JSON.parse(variables[ringName(name)]!).keys;
  const ringName = (name: string) => `CONCIERGE_${snakeCase(name)}_SERVICE_KEYS`;
  const withRing = (name: string, keys: ServiceKey[]) => ({ [ringName(name)]: JSON.stringify({ keys }) });
  const isUserToAuth = ({ caller, callee }: ServiceKey) => caller === "user" && callee === "auth";

  test("a key that the caller lacks, and one that the callee lacks", async () => {
    const ofUser = ringOf("user").filter((key) => !isUserToAuth(key));
    const lacks =
      /^problem user service keys: user calls auth but has no service key for it: run `concierge keys init`/;
    await findsOnly(withRing("user", ofUser), ExitCode.config, lacks);
    const ofAuth = ringOf("auth").filter((key) => !isUserToAuth(key));
    await findsOnly(
      withRing("auth", ofAuth),
      ExitCode.config,
      /^warning auth service keys: no key of user, which is refused; run/,
      /^problem user service keys: signs with user-auth-\S+, which auth does not have; give auth its key file$/,
    );
  });

  test("a key that the running callee does not know", async () => {
    const made = createServiceKey("user", "auth", "service");
    const ofUser = [made, ...ringOf("user").filter((key) => !isUserToAuth(key))];
    const found = await findingsWith(withRing("user", ofUser), ["user"]);
    assert.deepEqual(found.lines, [
      `problem user to auth: does not know our key ${made.kid}; give it its key file, and restart it`,
    ]);
    assert.equal(found.code, ExitCode.config);
  });

  test("a change of keys that was not ended", async () => {
    const made = createServiceKey("user", "auth", "service");
    const published = await findingsWith(withRing("user", [...ringOf("user"), made]), ["user"]);
    assert.match(
      published.lines.join("\n"),
      /^warning user service keys: .* user:auth: .* rotate-pairs activate --of user`$/,
    );
    const active = await findingsWith(withRing("auth", [made, ...ringOf("auth")]), ["auth"]);
    assert.match(
      active.lines.join("\n"),
      /^warning auth service keys: .* user:auth: .* rotate-pairs retire --of auth`$/,
    );
    const tokens = JSON.parse(variables.CONCIERGE_AUTH_TOKEN_KEYS!).keys;
    const more = [...tokens, { kid: "more", secret: made.secret }];
    const two = { CONCIERGE_AUTH_TOKEN_KEYS: JSON.stringify({ keys: more }) };
    await findsOnly(
      two,
      ExitCode.ok,
      /^warning auth token keys: 2 keys: a change of keys was not ended; .*rotate-tokens/,
    );
  });

  test("a peer that does not answer, and one that is something else", async () => {
    const away = { CONCIERGE_USER_AUTH_URL: `http://127.0.0.1:${await freePort()}` };
    await findsOnly(away, ExitCode.unavailable, /^problem user to auth: does not answer \(ECONNREFUSED\); see whether/);
    const other = { CONCIERGE_USER_AUTH_URL: standIn.url };
    await findsOnly(other, ExitCode.config, /^problem user to auth: answers, but is no internal listener; /);
  });
});

describe("doctor: what is outside", () => {
  test("a certificate that is missing, expired, of another key, and one that is good", async () => {
    const { good, expired } = await createTestCertificates();
    const write = async (name: string, text: string) => {
      await writeFile(join(folder, name), text, { mode: 0o600 });
      return join(folder, name);
    };
    const variablesOf = (certificate: string, key: string) => {
      return { CONCIERGE_TLS_CERTIFICATE_PATH: certificate, CONCIERGE_TLS_KEY_PATH: key };
    };
    const key = await write("key.pem", good.key);
    const ended = variablesOf(await write("expired.pem", expired.certificate), await write("expired.key", expired.key));
    await findsOnly(
      ended,
      ExitCode.config,
      /^problem certificate: expired on \d{4}-\d\d-\d\d; put a new one in its place/,
    );
    const mixed = variablesOf(ended.CONCIERGE_TLS_CERTIFICATE_PATH, key);
    await findsOnly(mixed, ExitCode.config, /^problem certificate: TLS: the key .* do not work together$/);
    const none = variablesOf(join(folder, "nothing.pem"), key);
    await findsOnly(
      none,
      ExitCode.config,
      /^problem certificate: TLS: the certificate .*nothing\.pem cannot be read: ENOENT$/,
    );
    const soon = variablesOf(await write("good.pem", good.certificate), key);
    await findsOnly(soon, ExitCode.ok, /^warning certificate: expires in 29 days, on \d{4}/);
  });

  test("a Redis and brokers that are not there", async () => {
    const port = await freePort();
    const redis = { CONCIERGE_REDIS_URL: `redis://:${CANARY}@127.0.0.1:${port}` };
    await findsOnly(
      redis,
      ExitCode.unavailable,
      /^problem Redis: does not answer \(ECONNREFUSED\); see whether it runs/,
    );
    const kafka = { CONCIERGE_KAFKA_BROKERS: `127.0.0.1:${port}` };
    await findsOnly(kafka, ExitCode.unavailable, /^problem Kafka: (brokers do not answer, or refuse; see|no answer)/);
  });

  test("a Firebase that refuses the key, or is away", async () => {
    const order = async (faults: object[]) => {
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${standIn.url}/faults`, { method: "PUT", headers, body: JSON.stringify(faults) });
      assert.ok(response.ok);
    };
    await order([{ fault: "key-refused" }]);
    await findsOnly({}, ExitCode.config, /^problem Firebase: refuses the service account's key; make a new key/);
    await order([{ fault: "key-unavailable" }]);
    await findsOnly(
      {},
      ExitCode.unavailable,
      /^problem Firebase: gives no access token \(push\/token-endpoint-unavailable\)/,
    );
    await order([]);
  });

  test("a mail server that refuses the login, or is away, and mails that nobody would send", async () => {
    const wrong = mailServer.url.replace(mailServer.password, CANARY);
    await findsOnly(
      { CONCIERGE_AUTH_SMTP_URL: wrong },
      ExitCode.config,
      /^problem mails: the mail server refuses the login;/,
    );
    const away = `smtp://user:${CANARY}@127.0.0.1:${await freePort()}`;
    await findsOnly(
      { CONCIERGE_AUTH_SMTP_URL: away },
      ExitCode.unavailable,
      /^problem mails: the mail server cannot be used/,
    );
    const { CONCIERGE_AUTH_MAIL_FROM: _, ...others } = variables;
    const { unusual } = await examine(others, ["auth"]);
    assert.ok(unusual.some((line) => line.startsWith("problem mails: CONCIERGE_AUTH_MAIL_FROM is missing")));
  });
});
