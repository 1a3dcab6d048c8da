/**
 * Programs in other languages that speak the legacy contract, each with its language's own gRPC. They are told one call after
 * the other, and tell what became of it; which calls, and what should become of them, is the test's to say.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const projectFolder = join(import.meta.dirname, "..");
const built = join(projectFolder, ".concierge/interop");
const DEFAULT_TIMEOUT_SECONDS = 10;

/** The command that runs each client; `make interop` builds them. */
const COMMANDS = {
  grpcio: [join(built, "python/bin/python"), join(import.meta.dirname, "python/main.py")],
  "grpc-go": [join(built, "go-client")],
  "grpc-js": [process.execPath, join(import.meta.dirname, "grpc-js/main.ts")],
} as const;

export type ClientName = keyof typeof COMMANDS;

export const clientNames = Object.keys(COMMANDS) as ClientName[];

export interface LegacyCall {
  method: string;
  request: Record<string, string>;
  /** 10 s unless told otherwise. */
  timeoutSeconds?: number;
  /** How often, one after the other on one channel; once unless told otherwise. */
  times?: number;
  /** What makes the call in Python: a generated stub unless told otherwise. */
  by?: "stub" | "client" | "rest";
}

export interface LegacyOutcome {
  /** The number of a gRPC status, an HTTP status, or the name of an exception. */
  code: number | string;
  answer?: unknown;
  /** How many of the calls ended like the first. */
  times: number;
}

export interface LegacyClient extends AsyncDisposable {
  call(call: LegacyCall): Promise<LegacyOutcome>;
}

export interface LegacyTarget {
  /** URLs of auth's internal listener, and of its listener for REST. */
  grpcUrl: string;
  restUrl: string;
  /** The file with the caller's key. */
  keysFile: string;
}

/** Starts a client. It ends by itself when it is disposed of; a failure of its own fails the call. */
export function startLegacyClient(name: ClientName, { grpcUrl, restUrl, keysFile }: LegacyTarget): LegacyClient {
  const [command, ...args] = COMMANDS[name];
  const child = spawn(command, args, {
    env: {
      AUTH_GRPC_URL: new URL(grpcUrl).host,
      AUTH_REST_URL: restUrl,
      AUTH_SERVICE_KEYS: keysFile,
      PYTHONPATH: join(built, "python/generated"),
      PYTHONDONTWRITEBYTECODE: "1",
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    async call({ method, request, timeoutSeconds = DEFAULT_TIMEOUT_SECONDS, times = 1, by = "stub" }) {
      child.stdin.write(`${JSON.stringify({ method, request, timeout: timeoutSeconds, times, by })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`the client in ${name} ended early`);
      return JSON.parse(value) as LegacyOutcome;
    },
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}
