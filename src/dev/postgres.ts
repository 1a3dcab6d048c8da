/**
 * The embedded real PostgreSQL: one call gives a running server on 127.0.0.1, first start or not, root or not.
 * A server already running on the folder is used and left running. One we started ends with us, even when we are killed:
 * a small `sh` in its own process group watches a pipe from us and stops the server when the pipe closes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile, realpath } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { ExitCode, StartupError } from "../errors.ts";
import { CHILD_ENVIRONMENT, run } from "./postgres-account.ts";
import {
  ensureCluster,
  findPlace,
  type PidFile,
  type Place,
  readPassword,
  readPidFile,
  removePidFile,
  removeUnfinished,
  SUPERUSER,
} from "./postgres-folder.ts";

export interface EmbeddedPostgresOptions {
  /** Where the data lives; made if missing. */
  folder: string;
  /** The TCP port on 127.0.0.1; 0 (the default) takes a free one. */
  port?: number;
  /** Server settings by name, over the defaults below; `fsync: "off"` is for tests only. */
  settings?: Record<string, string>;
  /** True: the data goes with the server, even when we are killed. */
  isTemporary?: boolean;
  /** A folder with `postgres` and `initdb` to use instead of the ones that are found. */
  binFolder?: string;
}

export interface EmbeddedPostgres extends AsyncDisposable {
  /** The superuser's URL on 127.0.0.1 with the password inside: never log it. */
  readonly url: string;
  /** Where the data really is: see `location` in postgres-folder.ts. */
  readonly dataFolder: string;
  /** True if the server was running before and goes on running after. */
  readonly attached: boolean;
}

const LOOPBACK = "127.0.0.1";
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 10;
const LOG_TAIL_CHARACTERS = 2_000;

const SETTINGS = {
  listen_addresses: LOOPBACK,
  unix_socket_directories: "",
  shared_buffers: "32MB",
  max_connections: "200",
  timezone: "UTC",
  log_timezone: "UTC",
  // a failed statement must not put its text (passwords, tokens) into the log
  log_min_error_statement: "panic",
};

/**
 * Runs "$@" and waits for it; at the end of standard input it asks for a fast shutdown, after 10 s for an immediate one,
 * and removes $TEMPORARY, if there is one.
 * The watcher can be killed only while it reads: later it has a child of its own, ends by itself, and is waited for, so
 * that nothing is left for an init process that may not be there.
 */
const SUPERVISOR = `
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(
  while read -r _ <&3; do :; done
  trap '' TERM
  kill -INT $server
  tick=0
  while kill -0 $server && [ $tick -lt 500 ]; do sleep 0.02; tick=$((tick + 1)); done
  kill -QUIT $server
  [ -z "$TEMPORARY" ] || rm -rf "$TEMPORARY"
) 2>/dev/null &
watcher=$!
exec 3<&-
wait $server
status=$?
kill $watcher
wait $watcher
exit $status
`;

/**
 * Starts the server, or attaches to the one that runs on this folder; returns when it answers queries.
 * Throws StartupError: no programs, data of another version, the port is in use, or the server's own last words.
 */
export async function startPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const place = await findPlace(options.folder, options.binFolder);
  const timeout = AbortSignal.timeout(START_TIMEOUT_MS);
  while (!timeout.aborted) {
    const running = (await attach(place, timeout)) ?? (await launch(place, options, timeout));
    if (running) return running;
    await delay(POLL_MS * 5);
  }
  throw await startFailure(place, `PostgreSQL did not start within ${START_TIMEOUT_MS / 1000} s`);
}

async function attach(place: Place, timeout: AbortSignal): Promise<EmbeddedPostgres | undefined> {
  for (;;) {
    const pidFile = await readPidFile(place);
    if (!pidFile) return undefined;
    const url = urlFor(pidFile.port, await readPassword(place));
    const state = await probe(url, place);
    if (state === "ready") {
      return { url, dataFolder: place.data, attached: true, [Symbol.asyncDispose]: () => Promise.resolve() };
    }
    if (state !== "busy" || timeout.aborted) return undefined;
    await delay(POLL_MS);
  }
}

/** Returns undefined if another try may end better: another starter was faster, or the free port was taken. */
async function launch(place: Place, options: EmbeddedPostgresOptions, timeout: AbortSignal) {
  await ensureCluster(place);
  const port = options.port || (await freePort());
  if (!(await isFree(port))) throw portInUse(port);
  const url = urlFor(port, await readPassword(place));
  const temporary = options.isTemporary ? place.data : "";
  const server = await spawnServer(place, { ...SETTINGS, ...options.settings, port: String(port) }, temporary);
  while (server.exitCode === null && server.signalCode === null) {
    if ((await probe(url, place)) === "ready") {
      await removeUnfinished(place);
      return owned(server, url, place);
    }
    if (timeout.aborted) await stop(server);
    else await delay(POLL_MS);
  }
  if (await anotherServer(place)) return undefined;
  if (!(await isFree(port))) {
    if (!options.port) return undefined;
    throw portInUse(port);
  }
  throw await startFailure(place, "PostgreSQL ended while starting");
}

/** Whether the data belongs to a server that still lives. A pid file whose number now is another program's is removed. */
async function anotherServer(place: Place): Promise<boolean> {
  const pidFile = await readPidFile(place);
  const program = pidFile && (await programOf(pidFile));
  if (!pidFile || program === undefined) return false;
  if (!program.includes("postgres")) await removePidFile(place, pidFile);
  return true;
}

async function programOf(pidFile: PidFile): Promise<string | undefined> {
  return readFile(`/proc/${pidFile.pid}/comm`, "utf8").catch(() =>
    run("ps", ["-o", "comm=", "-p", String(pidFile.pid)]).catch(() => undefined),
  );
}

async function spawnServer(place: Place, settings: Record<string, string>, temporary: string): Promise<ChildProcess> {
  const program = join(place.binaries.folder, "postgres");
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const log = await open(place.log, "a", 0o600);
  try {
    const server = spawn("/bin/sh", ["-c", SUPERVISOR, "concierge-postgres", program, "-D", place.data, ...flags], {
      ...place.account,
      cwd: "/",
      env: { ...CHILD_ENVIRONMENT, TEMPORARY: temporary },
      // its own session: a Ctrl-C in the terminal reaches us, not the server
      detached: true,
      stdio: ["pipe", log.fd, log.fd],
    });
    await once(server, "spawn");
    // the pipe breaks when the server ends first; its exit tells that
    server.stdin!.on("error", () => {});
    server.unref();
    (server.stdin as Socket).unref();
    return server;
  } finally {
    await log.close();
  }
}

function owned(server: ChildProcess, url: string, place: Place): EmbeddedPostgres {
  let stopped: Promise<void> | undefined;
  return {
    url,
    dataFolder: place.data,
    attached: false,
    [Symbol.asyncDispose]() {
      stopped ??= stop(server);
      return stopped;
    },
  };
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.ref();
  const ended = once(server, "exit");
  server.stdin!.end();
  await ended;
}

/** ready = answers on our data; busy = starting or stopping; absent = nobody, or somebody else, is there. */
async function probe(url: string, place: Place): Promise<"ready" | "busy" | "absent"> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, fetch_types: false, prepare: false, onnotice: () => {} });
  try {
    const [row] = await sql<{ folder: string }[]>`select current_setting('data_directory') as folder`;
    return (await realpath(row!.folder)) === (await realpath(place.data)) ? "ready" : "absent";
  } catch (error) {
    return error instanceof postgres.PostgresError && error.code === "57P03" ? "busy" : "absent";
  } finally {
    await sql.end({ timeout: 0 });
  }
}

function urlFor(port: number, password: string): string {
  return `postgres://${SUPERUSER}:${encodeURIComponent(password)}@${LOOPBACK}:${port}/postgres`;
}

async function freePort(): Promise<number> {
  return (await tryListen(0)) ?? 0;
}

async function isFree(port: number): Promise<boolean> {
  return (await tryListen(port)) !== undefined;
}

async function tryListen(port: number): Promise<number | undefined> {
  const server = createServer();
  try {
    server.listen(port, LOOPBACK);
    await once(server, "listening");
    return (server.address() as { port: number }).port;
  } catch {
    return undefined;
  } finally {
    server.close();
  }
}

function portInUse(port: number): StartupError {
  return new StartupError(
    `port ${port} on ${LOOPBACK} is in use: stop what listens there, or choose another port for the database`,
    ExitCode.unavailable,
  );
}

async function startFailure(place: Place, what: string): Promise<StartupError> {
  const log = await readFile(place.log, "utf8").catch(() => "");
  return new StartupError(
    `${what}; the end of ${place.log}:\n${log.slice(-LOG_TAIL_CHARACTERS).trim()}`,
    ExitCode.unavailable,
  );
}
