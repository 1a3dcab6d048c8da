/** The command line: help, and what is said to somebody who got it wrong. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { ExitCode } from "../errors.ts";
import { freePort, runHere } from "../testing/command.ts";
import { writeSecret } from "../token/key-folder.ts";

const COMMANDS = [
  "dev",
  "serve",
  "doctor",
  "demo",
  "push-stand-in",
  "provision",
  "migrate",
  "migrate-down",
  "restored",
  "keys",
  "certs",
  "token",
  "call",
  "admin",
  "users",
  "notifications",
  "events",
  "audit",
  "config",
];
const LIST_ROLES = "concierge.access.v1.AccessInternalService/ListRoles";

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-cli-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test("help lists every command, and each has help of its own", async () => {
  const { code, stdout, stderr } = await runHere(["--help"]);
  assert.equal(code, ExitCode.ok);
  assert.equal(stderr, "");
  for (const command of COMMANDS) {
    assert.match(stdout, new RegExp(`^  ${command} `, "m"));
    const own = await runHere([command, "--help"]);
    assert.equal(own.code, ExitCode.ok);
    assert.match(own.stdout, new RegExp(`^Usage: concierge ${command}`));
  }
});

const mistakes: [what: string, args: string[], says: RegExp][] = [
  ["no command", [], /^Usage: concierge/],
  ["an unknown command", ["sevre"], /^error: unknown command 'sevre'\n\(Did you mean serve\?\)/],
  ["an unknown option", ["dev", "--prot", "1"], /^error: unknown option '--prot'/],
  ["a missing argument", ["serve"], /^error: missing required argument 'service'/],
  ["too many arguments", ["dev", "auth"], /^error: too many arguments/],
  ["a missing option", ["keys", "add-caller", "billing"], /^error: required option '--to <service>'/],
  ["an unknown service", ["serve", "auth", "atuh"], /^concierge: there is no service "atuh"; there are auth, access,/],
  ["an unknown service to migrate", ["migrate", "atuh"], /^concierge: there is no service "atuh"/],
  ["a service without a database to migrate", ["migrate", "greeter"], /^concierge: greeter has no database$/m],
  ["the same, downwards", ["migrate-down", "notification-sender"], /^concierge: notification-sender has no database$/m],
  ["a service without a database that was restored", ["restored", "greeter"], /^concierge: greeter has no database$/m],
  ["an unknown algorithm", ["keys", "init", "--algorithm", "HS256"], /^concierge: the algorithm must be one of ES256/],
  ["a time that is none", ["audit", "list", "--since", "yesterday"], /^concierge: --since must be a time such as/],
  ["a limit that is none", ["audit", "list", "--limit", "all"], /^concierge: --limit is a whole number/],
  ["another limit that is none", ["notifications", "dead", "--limit", "0"], /^concierge: --limit is a whole number/],
  [
    "an unknown method",
    ["call", "concierge.access.v1.AccessInternalService/Nope"],
    /no internal method.*\n.*ListRoles/s,
  ],
  ["a public method", ["call", "concierge.auth.v1.AuthService/Login"], /^concierge: there is no internal method/],
  ["a base that is none", ["demo", "--base", "here"], /^concierge: --base is not a URL$/m],
  [
    "a base without its push stand-in",
    ["demo", "--base", "http://127.0.0.1:8080"],
    /^concierge: --base needs --pushes/,
  ],
  ["an unknown method to sign for", ["token", "--for", "Nope"], /^concierge: there is no internal method Nope/],
];

for (const [what, args, says] of mistakes) {
  test(`usage: ${what}: exit 64, said on standard error, no stack`, async () => {
    const { code, stdout, stderr } = await runHere(args);
    assert.equal(code, ExitCode.usage);
    assert.equal(stdout, "");
    assert.match(stderr, says);
    assert.doesNotMatch(stderr, /^\s+at |"stack"/m);
  });
}

test("usage: `dev` is for development only", async () => {
  const { code, stderr } = await runHere(["dev"], { CONCIERGE_MODE: "production" });
  assert.equal(code, ExitCode.usage);
  assert.match(stderr, /development mode only/);
});

test("keys: made once, named by file; a new caller's key stands in both files", async (t) => {
  const keys = join(await folderFor(t), "keys");
  const first = await runHere(["keys", "init", "--keys", keys]);
  assert.equal(first.code, ExitCode.ok);
  assert.match(first.stdout, /^wrote access\.json, auth-signing\.json, auth-tokens\.json, auth\.json, .* in /);
  assert.equal((await stat(join(keys, "auth.json"))).mode & 0o777, 0o600);
  assert.equal((await runHere(["keys", "init", "--keys", keys])).stdout, `nothing was missing in ${keys}\n`);
  const added = await runHere(["keys", "add-caller", "billing", "--to", "auth", "--keys", keys]);
  assert.equal(added.stdout, `wrote auth.json, billing.json in ${keys}\n`);
  const [own, callee] = await Promise.all(
    ["billing", "auth"].map((name) => readFile(join(keys, `${name}.json`), "utf8")),
  );
  const { secret } = JSON.parse(own!).keys[0] as { secret: string };
  assert.ok(callee!.includes(secret));
  for (const { stdout, stderr } of [first, added]) assert.ok(!`${stdout}${stderr}`.includes(secret));
});

test("keys: rotating publishes a key, lets it sign, and retires the old one; each step says what comes next", async (t) => {
  const keys = join(await folderFor(t), "keys");
  await runHere(["keys", "init", "--keys", keys]);
  const kids = async () => {
    const set = JSON.parse(await readFile(join(keys, "auth-signing.json"), "utf8")) as { keys: { kid: string }[] };
    return set.keys.map(({ kid }) => kid);
  };
  const [old] = await kids();
  const rotate = async (step: string) => (await runHere(["keys", "rotate", step, "--keys", keys])).stdout;
  assert.match(await rotate("publish"), /next: restart auth, .* activate/);
  const [signing, newest] = await kids();
  assert.equal(signing, old);
  assert.match(await rotate("activate"), /retire/);
  assert.deepEqual(await kids(), [newest, old]);
  await rotate("activate");
  assert.deepEqual(await kids(), [newest, old], "a step that was taken already changes nothing");
  assert.match(await rotate("retire"), /refused from then on/);
  assert.deepEqual(await kids(), [newest]);
  assert.equal((await stat(join(keys, "auth-signing.json"))).mode & 0o777, 0o600);
});

test("keys: a caller cannot take the name of a service, of the operator or of another file", async (t) => {
  const keys = join(await folderFor(t), "keys");
  await runHere(["keys", "init", "--keys", keys]);
  const signing = await readFile(join(keys, "auth-signing.json"), "utf8");
  for (const name of ["auth", "operator", "auth-signing", "auth-tokens", "../billing", "Billing", "b", ""]) {
    const { code, stderr } = await runHere(["keys", "add-caller", name, "--to", "auth", "--keys", keys]);
    assert.equal(code, ExitCode.usage, name);
    assert.match(stderr, /cannot be a caller's name/);
  }
  assert.equal(await readFile(join(keys, "auth-signing.json"), "utf8"), signing);
  const { stderr } = await runHere(["keys", "add-caller", "billing", "--to", "greeter", "--keys", keys]);
  assert.match(stderr, /"greeter" takes no internal calls; these do: auth, access, organization, user, notification\n/);
});

test("nothing is running: `token` and `call` say so, exit 69", async (t) => {
  const folder = await folderFor(t);
  await runHere(["keys", "init", "--keys", join(folder, "keys")]);
  for (const args of [["token"], ["token", "--user-id"], ["call", LIST_ROLES]]) {
    const { code, stdout, stderr } = await runHere([...args, "--folder", folder]);
    assert.deepEqual({ code, stdout }, { code: ExitCode.unavailable, stdout: "" });
    assert.equal(stderr, `concierge: nothing is running in ${folder}: start it with \`make start\`\n`);
  }
});

test("it was killed: its note is still there, nobody answers, and `token` and `call` say so, exit 69", async (t) => {
  const folder = await folderFor(t);
  await runHere(["keys", "init", "--keys", join(folder, "keys")]);
  const url = `http://127.0.0.1:${await freePort()}`;
  const demoAccount = { email: "demo@example.com", password: "canary-password" };
  await writeSecret(join(folder, "running.json"), { publicUrl: url, internalUrl: url, demoAccount });
  for (const args of [["token"], ["call", LIST_ROLES]]) {
    const { code, stdout, stderr } = await runHere([...args, "--folder", folder]);
    assert.deepEqual({ code, stdout }, { code: ExitCode.unavailable, stdout: "" });
    assert.equal(stderr, `concierge: nothing answers at ${url}: is it running?\n`);
  }
});

test("a file of the development folder that is damaged is named, and nothing of it is shown", async (t) => {
  const folder = await folderFor(t);
  await writeFile(join(folder, "running.json"), '{"password": canary');
  const { code, stderr } = await runHere(["token", "--folder", folder]);
  assert.equal(code, ExitCode.config);
  assert.equal(stderr, `concierge: ${join(folder, "running.json")} is not valid JSON\n`);
  await writeFile(join(folder, "state.json"), '{"passwords": canary');
  const started = await runHere(["dev", "--folder", folder], { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none" });
  assert.equal(started.code, ExitCode.config);
  assert.equal(started.stderr, `concierge: ${join(folder, "state.json")} is not valid JSON\n`);
});

test("`call` before it signs: a message that is no JSON or does not fit, a caller without a key", async (t) => {
  const folder = await folderFor(t);
  await runHere(["keys", "init", "--keys", join(folder, "keys")]);
  const call = (...args: string[]) => runHere(["call", ...args, "--folder", folder, "--url", "http://127.0.0.1:1"]);
  for (const message of ["{", '{"nope":1}', '{"userId":7}', "[]"]) {
    const { code, stderr } = await call("concierge.access.v1.AccessInternalService/GetUserRoles", message);
    assert.equal(code, ExitCode.usage, message);
    assert.match(stderr, /^concierge: the message does not fit concierge.access.v1.GetUserRolesRequest: /);
  }
  const stranger = await call(LIST_ROLES, "{}", "--as", "billing");
  assert.equal(stranger.code, ExitCode.config);
  assert.match(stranger.stderr, /holds no key with which billing may call access\n$/);
});

test("`migrate` without its variables names them all; a database that is down is exit 69", async () => {
  const missing = await runHere(["migrate"]);
  assert.equal(missing.code, ExitCode.config);
  assert.match(missing.stderr, /^concierge: configuration refused, 12 problems:\n/);
  const port = await freePort();
  const url = (role: string) => `postgres://${role}:Qx7-Vw2-Zt9-Lk4-${role}@127.0.0.1:${port}/auth`;
  const env = { CONCIERGE_AUTH_DATABASE_URL: url("runtime"), CONCIERGE_AUTH_DATABASE_OWNER_URL: url("owner") };
  const down = await runHere(["migrate", "auth"], env);
  assert.equal(down.code, ExitCode.unavailable);
  assert.equal(down.stderr, "concierge: auth: the database is not available\n");
});
