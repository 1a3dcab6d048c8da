/** `concierge dev` and the commands that work with a running one, end to end: one system for the whole file. */
import assert from "node:assert/strict";
import { access, chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { ExitCode } from "../errors.ts";
import {
  type Ended,
  occupiedPort,
  type RunningCommand,
  runCommand,
  runHere,
  startCommand,
} from "../testing/command.ts";
import { until } from "../testing/until.ts";

const FREE_PORTS = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
const ACCESS = "concierge.access.v1.AccessInternalService";
const CREATE = "concierge.notification.v1.NotificationInternalService/CreateNotification";

async function developmentFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-dev-"));
  // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
  await chmod(folder, 0o755);
  return folder;
}

/** The process of the folder's PostgreSQL, also where its data had to be put elsewhere. */
async function serverPid(folder: string): Promise<number> {
  const place = await readFile(join(folder, "postgres", "location"), "utf8").catch(() => join(folder, "postgres"));
  return Number.parseInt(await readFile(join(place.trim(), "cluster", "data", "postmaster.pid"), "utf8"), 10);
}

async function lives(pid: number): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return state !== "" && !/^\d+ \(.*\) Z/.test(state);
}

const exists = (file: string) =>
  access(file).then(
    () => true,
    () => false,
  );

/** Every secret that the folder's files hold, but the one that is shown: the demo account's password. */
async function secretsOf(folder: string): Promise<string[]> {
  const files = (await readdir(join(folder, "keys"))).map((name) => join(folder, "keys", name));
  const texts = await Promise.all([join(folder, "state.json"), ...files].map((file) => readFile(file, "utf8")));
  const { demoAccount } = JSON.parse(texts[0]!) as { demoAccount: { password: string } };
  const found = texts.flatMap((text) => [...text.matchAll(/"(?:secret|d|owner|runtime|private_key)": "([^"]+)"/g)]);
  const secrets = found.map((match) => match[1]!).filter((secret) => secret !== demoAccount.password);
  assert.ok(secrets.length > 15, "no secrets were found to look for");
  return secrets;
}

describe("concierge dev", () => {
  let folder: string;
  let dev: RunningCommand;
  let publicUrl: string;
  let internalUrl: string;
  const outputs: Ended[] = [];

  async function start(): Promise<void> {
    dev = startCommand(["dev", "--folder", folder], FREE_PORTS);
    await dev.printed(/Ctrl-C stops it/);
    publicUrl = (await dev.printed(/^ {2}public +(\S+)$/m))[1]!;
    internalUrl = (await dev.printed(/^ {2}internal +(\S+)$/m))[1]!;
  }

  /** One command with this folder, inside this process. */
  async function here(...args: string[]): Promise<Ended> {
    const ended = await runHere([...args, "--folder", folder]);
    outputs.push(ended);
    return ended;
  }

  const getMe = (token: string) => {
    const transport = createConnectTransport({ baseUrl: publicUrl, httpVersion: "1.1" });
    return createClient(UserService, transport).getMe({}, { headers: { authorization: `Bearer ${token.trim()}` } });
  };

  /** An internal call as any HTTP client would make it. */
  const post = async (method: string, token: string, message: object) => {
    const response = await fetch(`${internalUrl}/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", "service-token": token.trim() },
      body: JSON.stringify(message),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };

  before(async () => {
    folder = await developmentFolder();
    await start();
  });

  after(async () => {
    await dev[Symbol.asyncDispose]();
    await until("nothing writes into the folder", async () => !(await lives(await serverPid(folder).catch(() => 0))));
    await rm(folder, { recursive: true, force: true });
  });

  test("it says where to see the live inbox and what was pushed", async () => {
    for (const [name, title] of [
      ["inbox", "Inbox"],
      ["pushes", "Pushes"],
    ]) {
      const [, url] = new RegExp(`^ {2}${name} +(http\\S+) {3}live`, "m").exec(dev.stdout()) ?? [];
      assert.match(await (await fetch(url!)).text(), new RegExp(`<title>${title}</title>`));
    }
  });

  test("`token` prints an access token that works, and does so again", async () => {
    const first = await runCommand(["token", "--folder", folder]);
    assert.equal(first.code, ExitCode.ok, first.stderr);
    const second = await here("token");
    assert.notEqual(first.stdout, second.stdout);
    const userId = (await here("token", "--user-id")).stdout.trim();
    for (const { stdout, stderr } of [first, second]) {
      assert.equal(stderr, "");
      assert.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
      const { user } = await getMe(stdout);
      assert.deepEqual([user?.email, user?.roles, user?.userId], ["demo@example.com", ["user"], userId]);
    }
  });

  test("`token --for` prints a service token for one method, which changes something once", async () => {
    const userId = (await here("token", "--user-id")).stdout.trim();
    const message = { title: "Hello", text: "It works", userIds: [userId] };
    for (let round = 0; round < 2; round++) {
      const token = (await here("token", "--for", CREATE)).stdout;
      const answer = await post(CREATE, token, message);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      const replayed = await post(CREATE, token, message);
      assert.equal(replayed.status, 401);
      assert.match(JSON.stringify(replayed.body), /REPLAY/);
      assert.equal((await post(`${ACCESS}/ListRoles`, token, {})).status, 401, "it is for one method only");
    }
  });

  test("`call` prints the answer as JSON, twice in a row", async () => {
    for (let round = 0; round < 2; round++) {
      const { code, stdout, stderr } = await here("call", `${ACCESS}/ListRoles`);
      assert.deepEqual({ code, stderr }, { code: ExitCode.ok, stderr: "" });
      const { roles } = JSON.parse(stdout) as { roles: { name: string }[] };
      assert.ok(roles.some(({ name }) => name === "user"));
    }
    const real = await runCommand(["call", `/${ACCESS}/CreateRole`, '{"name":"porter"}', "--folder", folder]);
    assert.equal(real.code, ExitCode.ok, real.stderr);
  });

  test("`call` shows code and reason of a refusal, and ends with 1", async () => {
    const message = JSON.stringify({ userId: crypto.randomUUID(), role: "no-such-role" });
    const refused = await here("call", `${ACCESS}/AssignRole`, message);
    assert.equal(refused.code, ExitCode.failure);
    assert.equal(refused.stdout, "");
    assert.match(refused.stderr, /^concierge: NotFound USER_NOT_FOUND: .+\n$/);
    const invalid = await here("call", `${ACCESS}/AssignRole`, "{}");
    assert.match(invalid.stderr, /^concierge: InvalidArgument INVALID_REQUEST: .*user_id/);
  });

  test("`admin bootstrap` makes the first administrator, says so again, and nobody else after that", async () => {
    const people = createClient(AuthService, createConnectTransport({ baseUrl: publicUrl, httpVersion: "1.1" }));
    const details = { email: "first@example.com", password: crypto.randomUUID() };
    const { userId } = await people.registerUser(details);
    const ended = { code: ExitCode.ok, signal: null, stdout: `${userId} is the first administrator\n`, stderr: "" };
    for (let round = 0; round < 2; round++) {
      assert.deepEqual(await here("admin", "bootstrap", "--user-id", userId), ended);
    }
    const { stdout } = await here("call", `${ACCESS}/GetUserRoles`, JSON.stringify({ userId }));
    assert.deepEqual(JSON.parse(stdout), { roles: ["admin", "user"] });
    const second = await people.registerUser({ ...details, email: "second@example.com" });
    const refused = await here("admin", "bootstrap", "--user-id", second.userId);
    assert.equal(refused.code, ExitCode.failure);
    assert.match(refused.stderr, /^concierge: FailedPrecondition ADMIN_EXISTS: .+\n$/);
  });

  test("`greet` calls greeter in all four patterns over each protocol, and is refused once its token has expired", async () => {
    const { code, stdout, stderr } = await here("greet");
    assert.deepEqual({ code, stderr }, { code: ExitCode.ok, stderr: "" }, stdout);
    const lines = stdout.trim().split("\n");
    assert.equal(lines.pop(), "All 15 calls went as they should.");
    const patterns = [
      "SayHello",
      "SayHelloStream",
      "SayHelloClientStream",
      "SayHelloBidirectional",
      "an expired token",
    ];
    const expected = ["grpc", "grpc-web", "connect"].flatMap((protocol) =>
      patterns.map((what) => `${protocol} ${what}`),
    );
    assert.deepEqual(
      lines.map((line) =>
        /^(\S+) +(.+?) +ok +[\d.]+ ms {2}(?:Hello, Ann|1 Hello|Unauthenticated)/.exec(line)?.slice(1).join(" "),
      ),
      expected,
    );
  });

  test("a port in use: exit 69 with host and port, and nothing of it left running", async (t) => {
    const other = await developmentFolder();
    t.after(() => rm(other, { recursive: true, force: true }));
    await using occupied = await occupiedPort();
    const env = { CONCIERGE_PUBLIC_PORT: String(occupied.port), CONCIERGE_INTERNAL_PORT: "0" };
    const ended = await runCommand(["dev", "--folder", other], env);
    assert.equal(ended.code, ExitCode.unavailable);
    assert.equal(ended.stderr, `concierge: cannot listen on 127.0.0.1:${occupied.port}: the port is in use\n`);
    await assert.rejects(serverPid(other), { code: "ENOENT" });
    assert.equal(await exists(join(other, "running.json")), false);
  });

  test("SIGTERM stops all of it with 0; SIGKILL leaves no PostgreSQL; then it knows everybody, and new callers", async () => {
    const userId = (await here("token", "--user-id")).stdout;
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      const pid = await serverPid(folder);
      dev.kill(signal);
      const ended = await dev.ended();
      outputs.push(ended);
      await until("PostgreSQL has ended", async () => !(await lives(pid)));
      if (signal === "SIGTERM") {
        assert.equal(ended.code, ExitCode.ok, ended.stderr);
        assert.match(ended.stdout, /stopping\n$/);
        assert.equal(await exists(join(folder, "running.json")), false);
        const keys = join(folder, "keys");
        assert.equal(
          (await runHere(["keys", "add-caller", "billing", "--to", "access", "--keys", keys])).code,
          ExitCode.ok,
        );
      }
      await start();
      assert.equal((await here("token", "--user-id")).stdout, userId);
      const allowed = await here("call", `${ACCESS}/ListRoles`, "{}", "--as", "billing");
      assert.match(allowed.stdout, /"user"/, allowed.stderr);
    }
  });

  test("no secret is in any output, nor in the log", async () => {
    await here("token", "--user-id");
    await here("call", `${ACCESS}/ListRoles`);
    await here("call", `${ACCESS}/ListRoles`, "{}", "--as", "stranger");
    const file = join(folder, "concierge.log");
    await until("the call is in the log", async () => (await readFile(file, "utf8")).includes("/ListRoles"));
    const texts = [await readFile(file, "utf8"), dev.stdout(), dev.stderr()];
    const said = [...texts, ...outputs.map(({ stdout, stderr }) => stdout + stderr)].join("\n");
    for (const secret of await secretsOf(folder)) assert.ok(!said.includes(secret), "a secret was shown");
  });
});
