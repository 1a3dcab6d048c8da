/**
 * `make engines/up` and `make engines/down`: Kafka and Redis on this machine for whoever tries things out, on their
 * usual ports, with data that stays in .concierge/engines. Whoever runs is written down by its process id.
 */
import { mkdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { until } from "../../src/testing/until.ts";
import type { Engine } from "./engine.ts";
import { startKafka } from "./kafka.ts";
import { startRedis } from "./redis.ts";

const FOLDER = resolve(import.meta.dirname, "../../.concierge/engines");
const KAFKA_PORT = 9092;
const REDIS_PORT = 6379;
const STOP_TIMEOUT_MS = 60_000;

interface EngineHere {
  name: string;
  /** Starts it, and tells how to reach it. */
  start(folder: string): Promise<{ engine: Engine; address: string }>;
}

const engines: EngineHere[] = [
  {
    name: "redis",
    async start(folder) {
      const engine = await startRedis({ port: REDIS_PORT, folder, stays: true });
      engine.client.disconnect();
      return { engine, address: engine.url };
    },
  },
  {
    name: "kafka",
    async start(folder) {
      const engine = await startKafka({ port: KAFKA_PORT, folder, stays: true });
      return { engine, address: engine.broker };
    },
  },
];

async function up(): Promise<void> {
  for (const { name, start } of engines) {
    if (await runningPid(name)) {
      tell(`${name} runs`);
      continue;
    }
    const folder = homeOf(name);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const { engine, address } = await start(folder);
    await writeFile(pidFile(name), String(engine.pid()));
    tell(`${name} answers at ${address}`);
  }
}

async function down(): Promise<void> {
  for (const { name } of engines) {
    const pid = await runningPid(name);
    if (pid) {
      process.kill(pid);
      await until(`the end of ${name}`, async () => !(await runningPid(name)), STOP_TIMEOUT_MS);
    }
    await rm(pidFile(name), { force: true });
    tell(`${name} is stopped`);
  }
}

function homeOf(name: string): string {
  return join(FOLDER, `${name}-home`);
}

function pidFile(name: string): string {
  return join(homeOf(name), "pid");
}

/** Undefined when it has ended; its id may be somebody else's by now, who works elsewhere. */
async function runningPid(name: string): Promise<number | undefined> {
  try {
    const pid = Number(await readFile(pidFile(name), "utf8"));
    return (await readlink(`/proc/${pid}/cwd`)) === homeOf(name) ? pid : undefined;
  } catch {
    return undefined;
  }
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

const verbs: Record<string, () => Promise<void>> = { up, down };
const verb = verbs[process.argv[2] ?? ""];
if (!verb) throw new Error("say up or down");
await verb();
