/**
 * A server of others as a process: started, stopped, killed, and started again on the same port and data. It is
 * started when it answers, and it dies with the process that started it, however that ends, unless it is meant to
 * stay.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { open, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export interface Engine extends AsyncDisposable {
  /** Undefined while it does not run. */
  pid(): number | undefined;
  /** Resolves when it answers. Throws with its last words, when it ends instead or is not there in a minute. */
  start(): Promise<void>;
  /** Asks it to end (SIGTERM), and waits for that. Nothing happens, when it does not run. */
  stop(): Promise<void>;
  /** Ends it at once (SIGKILL). */
  kill(): Promise<void>;
}

export interface EngineOptions {
  program: string;
  programArguments: readonly string[];
  /** Where it works, with `engine.log`. */
  folder: string;
  /** Whether it serves clients. */
  answers: () => Promise<boolean>;
  /** Goes on when this process ends. */
  stays?: boolean;
}

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 20;
const LOG = "engine.log";
const LAST_WORDS_CHARACTERS = 2_000;
const LOOPBACK = "127.0.0.1";
// Below the ports that systems hand out by themselves: while an engine is down, nobody is given its port.
const LOWEST_PORT = 20_000;
const HIGHEST_PORT = 32_000;

export function engine(options: EngineOptions): Engine {
  let child: ChildProcess | undefined;
  const end = async (signal: NodeJS.Signals) => {
    const ending = child;
    child = undefined;
    if (!ending || hasEnded(ending)) return;
    const exited = once(ending, "exit");
    ending.kill(signal);
    await exited;
  };
  return {
    pid: () => child?.pid,
    async start() {
      child = await launch(options);
      await untilAnswers(child, options);
      if (options.stays) child.unref();
    },
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    [Symbol.asyncDispose]: () => end("SIGKILL"),
  };
}

async function launch({ program, programArguments, folder, stays }: EngineOptions): Promise<ChildProcess> {
  await using log = await open(join(folder, LOG), "a", 0o600);
  const mortal = ["setpriv", "--pdeathsig", "KILL", program, ...programArguments];
  const [file, ...args] = stays ? [program, ...programArguments] : mortal;
  const child = spawn(file!, args, { cwd: folder, stdio: ["ignore", log.fd, log.fd], detached: stays });
  await once(child, "spawn");
  return child;
}

async function untilAnswers(child: ChildProcess, { program, answers, folder }: EngineOptions): Promise<void> {
  const timeout = AbortSignal.timeout(START_TIMEOUT_MS);
  while (!(await answers())) {
    if (!hasEnded(child) && !timeout.aborted) {
      await delay(POLL_MS);
      continue;
    }
    child.kill("SIGKILL");
    const words = (await readFile(join(folder, LOG), "utf8")).slice(-LAST_WORDS_CHARACTERS);
    throw new Error(`${program} does not answer${timeout.aborted ? "" : ", it has ended"}. Its last words:\n${words}`);
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

/** A free one on 127.0.0.1, that nobody else is given while it is not in use. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(LOWEST_PORT, HIGHEST_PORT);
    const server = createServer().listen(port, LOOPBACK);
    const isFree = await once(server, "listening").then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
