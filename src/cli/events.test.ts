/** `concierge events` with a running `concierge dev`: one system for the whole file. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { asAdmin } from "../db/provision.ts";
import { startPostgres } from "../dev/postgres.ts";
import { ExitCode } from "../errors.ts";
import { freePort, type RunningCommand, runHere, startCommand } from "../testing/command.ts";
import { until } from "../testing/until.ts";

const ACCESS = "concierge.access.v1.AccessInternalService";
const FEED = "concierge.feed.v1.FeedInternalService";
const PUBLISHERS = ["auth", "access", "organization", "user", "notification"];

interface Line {
  service: string;
  position: number;
  type: string;
  version: number;
  event: Record<string, unknown>;
}

describe("concierge events", () => {
  let folder: string;
  let internalPort: number;
  let dev: RunningCommand;

  async function start(): Promise<void> {
    dev = startCommand(["dev", "--folder", folder], {
      CONCIERGE_PUBLIC_PORT: "0",
      CONCIERGE_INTERNAL_PORT: String(internalPort),
    });
    await dev.printed(/Ctrl-C stops it/);
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-events-"));
    // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
    await chmod(folder, 0o755);
    internalPort = await freePort();
    await start();
  });

  after(async () => {
    dev.kill("SIGTERM");
    await dev.ended();
    await rm(folder, { recursive: true, force: true });
  });

  const here = (...args: string[]) => runHere([...args, "--folder", folder]);
  /** Reads at the address of the internal listener, also while nobody is there. */
  const tail = (...args: string[]) => {
    const url = `http://127.0.0.1:${internalPort}`;
    return startCommand(["events", "tail", ...args, "--folder", folder, "--url", url]);
  };
  const createRole = async (name: string) => {
    const { code, stderr } = await here("call", `${ACCESS}/CreateRole`, JSON.stringify({ name }));
    assert.equal(code, ExitCode.ok, stderr);
  };
  const linesOf = ({ stdout }: { stdout: string }) => {
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Line);
  };
  /** As Ctrl-C does. */
  const interrupt = async (command: RunningCommand) => {
    command.kill("SIGINT");
    const ended = await command.ended();
    assert.equal(ended.code, ExitCode.ok, ended.stderr);
    return ended;
  };

  test("`tail` prints what is there and what comes, decoded, and ends with 0 at Ctrl-C", async () => {
    await using all = tail("--from", "oldest");
    await all.printed(/"type":"concierge.user.v1.UserCreated"/);
    await createRole("porter");
    await all.printed(/"event":\{"role":"porter"|"event":\{[^\n]*"porter"/);
    const ended = await interrupt(all);
    assert.equal(ended.stderr, "");
    const lines = linesOf(ended);
    const registered = lines.find(({ type }) => type === "concierge.auth.v1.AccountRegistered")!;
    assert.deepEqual([registered.service, registered.position, registered.version], ["auth", 1, 1]);
    assert.equal(registered.event.email, "demo@example.com");
    for (const service of ["auth", "access", "user"]) {
      const positions = lines.filter((line) => line.service === service).map(({ position }) => position);
      assert.deepEqual(
        positions,
        positions.map((_, index) => index + 1),
      );
    }
  });

  test("`tail` of some events of a service, by short and full names, from a position", async () => {
    const { stdout } = await here("events", "status", "--service", "access", "--json");
    const [{ head }] = (JSON.parse(stdout) as { feeds: [{ head: number }] }).feeds;
    const types = ["--types", "RoleChanged", "concierge.access.v1.RoleAssigned"];
    await using some = tail("--service", "access", "--from", String(head), ...types);
    await createRole("gardener");
    await some.printed(/"gardener"/);
    const [line, ...others] = linesOf(await interrupt(some));
    assert.deepEqual([line!.service, line!.position, others.length], ["access", head + 1, 0]);
  });

  test("`tail` from a position that there is not says so, and goes on with the oldest", async () => {
    await using lost = tail("--service", "user", "--from", "123456");
    await lost.printed(/"position":1,/);
    const { stderr } = await interrupt(lost);
    assert.equal(
      stderr,
      "concierge: user: the feed does not have this place any more: going on with the oldest event that it has\n",
    );
  });

  test("`status` shows each feed and each follower, as a table and as JSON", async () => {
    const { code, stdout, stderr } = await here("events", "status");
    assert.deepEqual({ code, stderr }, { code: ExitCode.ok, stderr: "" });
    assert.match(stdout, /^feed +head +trimmed +pending\n/);
    for (const service of PUBLISHERS) assert.match(stdout, new RegExp(`^${service} +\\d+ +0 +\\d+$`, "m"));
    assert.match(stdout, /^user <- auth +0 +\d+\.\d s ago +0$/m);
    assert.match(stdout, /^notification <- auth +- +\d+\.\d s ago +0$/m, "one that is in memory keeps no place");
    const shown = JSON.parse((await here("events", "status", "--json")).stdout) as Record<string, unknown[]>;
    assert.deepEqual(Object.keys(shown), ["feeds", "followers", "unanswered"]);
    assert.deepEqual(
      (shown.feeds as Line[]).map(({ service }) => service),
      PUBLISHERS,
    );
    assert.deepEqual(shown.unanswered, []);
  });

  test("`call` takes the feed's methods: the message says whose it is", async () => {
    const { code, stdout } = await here("call", `${FEED}/GetStatus`, '{"service":"auth"}');
    assert.equal(code, ExitCode.ok);
    assert.ok(Number((JSON.parse(stdout) as { head: { position: string } }).head.position) > 0);
    const nobodys = await here("call", `${FEED}/GetStatus`);
    assert.deepEqual([nobodys.code, nobodys.stdout], [ExitCode.usage, ""]);
    const token = await here("token", "--for", `${FEED}/GetStatus`);
    assert.deepEqual([token.code, token.stdout], [ExitCode.usage, ""]);
  });

  for (const [what, args, says] of [
    [
      "a service that publishes nothing",
      ["--service", "greeter"],
      /"greeter" .*: auth, access, organization, user, notification$/m,
    ],
    ["an event that there is not", ["--types", "Nope"], /no event Nope; there are\n {2}concierge\.auth\.v1\./],
    [
      "another service's event",
      ["--service", "user", "--types", "RoleCreated"],
      /no event RoleCreated; .*UserCreated/s,
    ],
    ["a position of nobody", ["--from", "7"], /whose position it is with --service/],
    ["no position", ["--from", "-7"], /must be newest, oldest or a position/],
  ] as const) {
    test(`\`tail\` with ${what}: exit 64, and it says what there is`, async () => {
      const { code, stdout, stderr } = await here("events", "tail", ...args);
      assert.deepEqual({ code, stdout }, { code: ExitCode.usage, stdout: "" });
      assert.match(stderr, says);
    });
  }

  test("a service without its database: `status` ends with 69 and names it, and shows the others", async () => {
    await using postgres = await startPostgres({ folder: join(folder, "postgres") });
    assert.ok(postgres.attached);
    const allow = (isAllowed: boolean) => {
      return asAdmin(postgres.url, async (sql) => {
        await sql.unsafe(`alter database concierge_user allow_connections ${isAllowed}`);
        await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = 'concierge_user'`;
      });
    };
    await allow(false);
    const { code, stdout, stderr } = await here("events", "status");
    assert.equal(code, ExitCode.unavailable, stdout + stderr);
    assert.match(stderr, /^concierge: user does not answer: [^\n]+\n$/);
    assert.match(stdout, /^auth +\d/m);
    assert.doesNotMatch(stdout, /^user/m);
    await allow(true);
    await until("user answers again", async () => (await here("events", "status")).code === ExitCode.ok);
  });

  test("an outage: `tail` says so once and goes on; `status` ends with 69", async () => {
    await createRole("keeper");
    await using waiting = tail("--service", "access", "--from", "oldest");
    await waiting.printed(/"keeper"/);
    dev.kill("SIGTERM");
    await dev.ended();
    await until("it says so", () => waiting.stderr() !== "");
    const url = `http://127.0.0.1:${internalPort}`;
    const { code, stderr } = await here("events", "status", "--url", url);
    assert.equal(code, ExitCode.unavailable);
    for (const service of PUBLISHERS) assert.match(stderr, new RegExp(`${service} does not answer: nothing answers`));
    await start();
    await createRole("pilot");
    await waiting.printed(/"pilot"/);
    const ended = await interrupt(waiting);
    assert.match(ended.stderr, /^concierge: access: waiting: [^\n]+\nconcierge: access: answers again\n$/);
    assert.equal(ended.stdout.match(/"keeper"/g)!.length, 1, "nothing comes twice");
  });
});
