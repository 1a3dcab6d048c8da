/** `concierge users import`, against a running auth. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode } from "../errors.ts";
import { auth } from "../services/auth/service.ts";
import { freePort, runHere } from "../testing/command.ts";
import { startTestService, type TestSystem } from "../testing/system.ts";
import { writeSecret } from "../token/key-folder.ts";

/** Made by Apache's htpasswd -B. */
const PASSWORD = "Fine Påssword 1";
const HASH = "$2y$05$LlQygfwzuGQSKTt4UXmNZO.Ar2A7tsTbwr8u4AAWc9r1inHU0VZIC";
const row = (email: string, more = {}) => JSON.stringify({ email, password_hash: HASH, ...more });

/** The command signs by the real time, so the system goes by it, too. */
const clock = { ...systemClock, advance() {} };

/** What it says of an import that takes longer than a second. */
const withoutProgress = (text: string) => text.replaceAll(/^concierge: \d+ lines, \d+ a second\n/gm, "");

describe("concierge users import", () => {
  let system: TestSystem;
  let folder: string;
  let file: string;

  before(async () => {
    system = await startTestService(auth, { clock });
    await system.server.ready;
    folder = await mkdtemp(join(tmpdir(), "concierge-import-"));
    file = join(folder, "people.jsonl");
    await writeSecret(join(folder, "operator.json"), { keys: [system.keyOf("operator", "auth")] });
  });

  after(async () => {
    await rm(folder, { recursive: true, force: true });
    await system[Symbol.asyncDispose]();
  });

  const write = (lines: (string | Buffer)[]) =>
    writeFile(file, Buffer.concat(lines.flatMap((line) => [Buffer.from(line), Buffer.from("\n")])));
  const importFile = (args: string[] = [], url = system.internalUrl, host = {}) =>
    runHere(["users", "import", file, "--keys", folder, "--url", url, ...args], {}, host);

  test("imports a file, and again: nothing is done twice", async () => {
    await write([
      row("ann@example.com", { first_name: "Ann", last_name: "Lee", locale: "en", kind: "user", email_verified: true }),
      row("bob@example.com", { first_name: null, kind: null }),
      "",
      row("nightjars@example.com", { kind: "artist", stage_name: "The Nightjars" }),
      `  ${row("crlf@example.com")}\r`,
    ]);
    const first = await importFile();
    assert.deepEqual(
      [first.code, first.stdout, withoutProgress(first.stderr)],
      [ExitCode.ok, "4 lines: 4 imported, 0 already there, 0 refused\n", ""],
    );
    const again = await importFile();
    assert.deepEqual([again.code, again.stdout], [ExitCode.ok, "4 lines: 0 imported, 4 already there, 0 refused\n"]);
    for (const email of ["ann@example.com", "crlf@example.com"]) {
      await system.asUser(AuthService).login({ email, password: PASSWORD });
    }
  });

  test("names every line that it cannot take, shows no hash, takes the others, and ends with 1", async () => {
    await write([
      row("good-1@example.com"),
      "no JSON",
      `["${HASH}"]`,
      JSON.stringify({ password_hash: HASH }),
      JSON.stringify({ email: "number@example.com", password_hash: 7 }),
      row("unknown@example.com", { phone: "1", [HASH]: 1 }),
      row("kind@example.com", { kind: "admin" }),
      row("no address"),
      row("artist@example.com", { kind: "artist" }),
      row("nul@example.com", { first_name: "A\0" }),
      row("hash@example.com", { password_hash: "5f4dcc3b5aa765d61d8327deb882cf99" }),
      row("cost@example.com", { password_hash: HASH.replace("$05$", "$15$") }),
      Buffer.from([0x22, 0xff, 0x22]),
      row("long@example.com", { first_name: "x".repeat(70_000) }),
      row("good-2@example.com"),
    ]);
    const { code, stdout, stderr } = await importFile();
    assert.equal(code, ExitCode.failure);
    assert.equal(stdout, "15 lines: 2 imported, 0 already there, 13 refused\n");
    const said = withoutProgress(stderr).split("\n");
    for (const [line, problem] of [
      [2, /it is no JSON object$/],
      [3, /it is no JSON object$/],
      [4, /email: /],
      [5, /password_hash: /],
      [6, /it has a field that is not known: phone$/],
      [7, /kind: .*"user"\|"artist"/],
      [8, /email: must be a valid email/],
      [9, /an artist has a stage name/],
      [10, /first_name|firstName|text/],
      [11, /neither argon2id's nor bcrypt's$/],
      [12, /takes too long to verify$/],
      [13, /it is no JSON object$/],
      [14, /it is longer than 65536 bytes$/],
    ] as const) {
      const found = said.find((text) => text.startsWith(`concierge: line ${line}: `));
      assert.match(found ?? "", problem, `line ${line}`);
    }
    assert.equal(said.length, 15, stderr);
    assert.equal(said.at(-2), "concierge: lines that were not imported: 13");
    assert.doesNotMatch(stderr, /\$2y\$|5f4dcc3b/);
  });

  test("Ctrl-C ends it after the batch that is under way, and it says how to go on", async () => {
    await write(["no JSON", ...Array.from({ length: 1_200 }, (_, index) => row(`many-${index}@example.com`))]);
    const stopping = new AbortController();
    const stopped = await importFile([], system.internalUrl, { stop: stopping.signal, warn: () => stopping.abort() });
    assert.equal(stopped.code, ExitCode.interrupted);
    assert.equal(stopped.stdout, "500 lines: 499 imported, 0 already there, 1 refused\n");
    assert.match(stopped.stderr, /^concierge: to go on: concierge users import \S+people\.jsonl --from-line 501$/m);
    const rest = await importFile(["--from-line", "501"]);
    assert.deepEqual([rest.code, rest.stdout], [ExitCode.ok, "701 lines: 701 imported, 0 already there, 0 refused\n"]);
  });

  test("an outage: it says where to go on, exit 69", async () => {
    await write([row("outage@example.com")]);
    const { code, stderr } = await importFile([], `http://127.0.0.1:${await freePort()}`);
    assert.equal(code, ExitCode.unavailable);
    assert.match(stderr, /^concierge: to go on: .* --from-line 1\nconcierge: nothing answers at /);
  });

  test("a file that is not there and a line that is none are mistakes, exit 64", async () => {
    const missing = await runHere([
      "users",
      "import",
      join(folder, "none"),
      "--keys",
      folder,
      "--url",
      "http://[::1]:1",
    ]);
    assert.deepEqual([missing.code, missing.stdout], [ExitCode.usage, ""]);
    assert.match(missing.stderr, /none cannot be read \(ENOENT\)\n$/);
    for (const line of ["0", "-1", "x", "1.5"])
      assert.equal((await importFile(["--from-line", line])).code, ExitCode.usage);
  });
});
