/** What a log line looks like, and that no secret gets into one whatever way it is logged. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { DrizzleQueryError } from "drizzle-orm";
import { Code, fail, StartupError } from "./errors.ts";
import { createLogger, type Logger, redactText } from "./log.ts";

const clock = { now: () => Date.UTC(2031, 0, 2, 3, 4, 5, 678), monotonic: () => 0 };
type Line = Record<string, unknown> & { error?: Record<string, unknown> };

/** Runs one logging action and returns its lines, parsed, and as text. */
function logged(action: (log: Logger) => void) {
  const texts: string[] = [];
  const destination = { write: (line: string) => texts.push(line) };
  action(createLogger({ level: "debug", mode: "production", destination, clock }));
  for (const text of texts) assert.match(text, /^\{[^\n]*\}\n$/, "one line, one object");
  return { lines: texts.map((text) => JSON.parse(text) as Line), text: texts.join("") };
}

/** An error's fields without its stack. */
function pick(fields: unknown) {
  const { stack, ...rest } = fields as Record<string, unknown>;
  assert.ok(Array.isArray(stack));
  return rest;
}

test("a line carries time, level, service, mode, fields and message, and nothing of the machine", () => {
  const { lines } = logged((log) => {
    log.info({ requestId: "r1", tokenCount: 3, idempotencyKey: "i1" }, "call %s", "done");
    log.trace("below the level");
    log.child({ caller: "user" }).warn("from a child");
  });
  const base = { time: "2031-01-02T03:04:05.678Z", mode: "production" };
  assert.deepEqual(lines, [
    { level: "info", ...base, requestId: "r1", tokenCount: 3, idempotencyKey: "i1", msg: "call done" },
    { level: "warn", ...base, caller: "user", msg: "from a child" },
  ]);
});

const canary = "CANARY5e1f0a";
const sensitiveNames = [
  "password",
  "currentPassword",
  "token",
  "refresh_token",
  "accessToken",
  "authorization",
  "Authorization",
  "service-token",
  "secret",
  "clientSecret",
  "key",
  "keys",
  "signingKeys",
  "tokenKeys",
  "private_key",
  "set-cookie",
  "cookie",
  "credentials",
];

for (const name of sensitiveNames) {
  test(`S-LOG-01 the field ${name} is redacted at any depth`, () => {
    const { text, lines } = logged((log) => {
      log.info({ [name]: canary }, "top");
      log.info({ [name]: { nested: [canary] } }, "whole value");
      log.info({ a: [{ b: { c: { d: [{ e: { f: { [name]: canary } } }] } } }] }, "deep");
      log.child({ [name]: canary, request: { headers: { [name]: [canary] } } }).info("binding");
      log.info({ visible: "yes" }, `as text ${JSON.stringify({ password: canary })}`);
    });
    assert.ok(!text.includes(canary), text);
    assert.equal(lines.length, 5);
    assert.equal(lines[0]?.[name], "[redacted]");
    assert.equal(lines[4]?.visible, "yes");
  });
}

const leakyTexts = [
  `connect postgres://auth:${canary}@db:5432/auth failed`,
  `connect postgres://auth:p"${canary}@db/auth failed`,
  `connect postgres://auth:a@b/${canary}@db/auth failed`,
  `redis://:${canary}@cache:6379`,
  `header authorization: Bearer ${canary}.x`,
  `header Authorization: Basic ${canary}==`,
  `got eyJhbGciOiJFUzI1NiJ9.${canary}.${canary}`,
  `password=${canary} user=x`,
  `password: ${canary}`,
  `password: "${canary}"`,
  `PASSWORD='${canary}'`,
  `?token=${canary}&x=1`,
  `{"secret":"${canary}"}`,
  `{ "token" : "${canary}" }`,
];

for (const leaky of leakyTexts) {
  test(`S-LOG-01 inside text: ${leaky.replaceAll(canary, "...")}`, () => {
    const { text } = logged((log) => {
      log.info(leaky);
      log.info({ note: leaky, list: [leaky] }, "%s", leaky);
      log.error(new Error(leaky));
      log.error({ error: new Error("outer", { cause: new Error(leaky) }) });
      log.error({ err: new Error(leaky), nested: { text: leaky } }, "message");
      log.child({ note: leaky }).info("binding");
    });
    assert.ok(!text.includes(canary), text);
  });
}

test("redaction leaves ordinary text alone", () => {
  for (const text of [
    "listening on http://127.0.0.1:8080/path",
    "invalid token: expired",
    "mail to someone@example.com from http://127.0.0.1:8080",
    "the password is too short",
    "basic auth is not offered",
  ]) {
    assert.equal(redactText(text), text);
  }
  const { lines } = logged((log) => log.info({ hasPassword: true, token: null, password: false, publicKey: "k" }));
  assert.equal(lines[0]?.token, null);
  assert.equal(lines[0]?.password, false);
  assert.equal(lines[0]?.hasPassword, true);
  assert.equal(lines[0]?.publicKey, "k");
});

test("redaction keeps every line one valid JSON object, and takes no time worth the name on hostile text", () => {
  const bits = [
    '"',
    "\\",
    "password",
    "=",
    ":",
    "://",
    "u:",
    "@",
    " ",
    "\n",
    "token",
    "eyJhbGciOiJ",
    ".",
    "{",
    "}",
    "[",
    ",",
    "'",
  ];
  const texts = bits.flatMap((a) => bits.flatMap((b) => bits.map((c) => `secret${a}x${b}${c}y${a}${c}`)));
  const { lines } = logged((log) => {
    for (const text of texts) log.info({ note: text, [text]: text, password: text });
  });
  assert.equal(lines.length, texts.length);
  for (const hostile of ["://a:", 'password\\"', "bearer ", "eyJaaaaaaaa", "password   "]) {
    const startMs = performance.now();
    redactText(hostile.repeat(100_000 / hostile.length));
    assert.ok(performance.now() - startMs < 1000, hostile);
  }
});

test("S-LOG-01 a failed query shows neither its parameters nor the details of the database", () => {
  const cause = Object.assign(new Error("duplicate key value"), { code: "23505", detail: `Key (email)=(${canary})` });
  const error = new DrizzleQueryError("insert into account values ($1)", [canary], cause);
  const { text, lines } = logged((log) => {
    log.error(error);
    log.error({ error });
    log.error({ error }, "writing");
    log.child({ error }).error("in a binding");
    log.error({ failure: error, deep: { error } }, "elsewhere");
  });
  assert.ok(!text.includes(canary), text);
  assert.equal(lines[0]?.msg, "a database query failed");
  assert.equal(lines[1]?.msg, "a database query failed");
  assert.deepEqual(pick(lines[2]?.error?.cause), { type: "Error", message: "duplicate key value", code: "23505" });
  assert.match(text, /"deep":\{"error":\{"type":"DrizzleQueryError"/);
});

test("expected errors have code and reason, unexpected ones a stack", () => {
  const { lines } = logged((log) => {
    log.info({ error: fail(Code.AlreadyExists, "EMAIL_TAKEN", "e-mail is taken") }, "refused");
    log.error({ error: new TypeError("x is not a function") }, "broke");
    log.error({ error: fail(Code.Internal, "INTERNAL", "internal error", { cause: new RangeError("why") }) }, "broke");
    log.error(new StartupError("configuration refused"));
  });
  const [refused, broke, internal, start] = lines.map((line) => line.error);
  assert.deepEqual(refused, {
    type: "ConnectError",
    message: "[already_exists] e-mail is taken",
    code: "AlreadyExists",
    reason: "EMAIL_TAKEN",
  });
  assert.equal(broke?.type, "TypeError");
  assert.match(String(broke?.stack), /^at .*log\.test/);
  assert.ok(Array.isArray(internal?.stack));
  assert.deepEqual(pick(internal?.cause), { type: "RangeError", message: "why" });
  assert.deepEqual(start, { type: "StartupError", message: "configuration refused" });
  assert.equal(lines[3]?.msg, "configuration refused");
});

test("causes that point at each other end", () => {
  const one = new Error("one");
  const two = new Error("two", { cause: one });
  one.cause = two;
  const { lines } = logged((log) => log.error({ error: one }, "circular"));
  assert.equal(lines.length, 1);
});

test("without a destination lines go to stdout, all of them, even right before the exit", () => {
  const module = new URL("./log.ts", import.meta.url).href;
  const program = `import { createLogger } from ${JSON.stringify(module)};
    const log = createLogger({ level: "info", mode: "demo" });
    for (let i = 0; i < 200; i++) log.info({ i }, "x".repeat(500));
    process.exit(3);`;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  assert.equal(run.status, 3, run.stderr);
  assert.equal(run.stdout.trim().split("\n").length, 200);
});

test("S-LOG-01 a JWT is masked wherever it stands in a run of dots and dashes", () => {
  const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
  for (const before of ["", "pre-", "foo.", "a-b-c."]) {
    assert.doesNotMatch(redactText(`/path/${before}${jwt} end`), /hbGci|zdWIi/, before);
  }
  const dashes = "eyJ-".repeat(4);
  assert.equal(redactText(`${dashes} and 1.2.3 and a.b-c.example.com`), `${dashes} and 1.2.3 and a.b-c.example.com`);
});
