/** Worker: services as `concierge serve` runs them, in production mode, over databases that others of their kind may share. */
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { createLogger } from "../log.ts";
import { type RunningServer, startServer } from "../server.ts";
import { services as allServices } from "../services.ts";
import { fateCommands } from "./fate.ts";
import { answerCommands } from "./workers.ts";

/** Where a replica is. */
export interface Replica {
  publicUrl: string;
  internalUrl: string;
}

export interface ReplicaTask {
  /** Their names. */
  services: string[];
  variables: Record<string, string>;
}

/** Ports are free ones; and all calls come from one address. */
const VARIABLES = {
  CONCIERGE_PUBLIC_PORT: "0",
  CONCIERGE_INTERNAL_PORT: "0",
  CONCIERGE_REQUESTS_PER_SECOND: "0",
};
const QUESTIONS = /^rpc_server_call_duration_seconds_count\{.*AuthInternalService\/CheckSession.*\} (\d+)$/gm;
let running: RunningServer | undefined;

answerCommands({
  ...fateCommands,
  async start({ services: names, variables }: ReplicaTask): Promise<Replica> {
    const definitions = allServices.filter(({ name }) => names.includes(name));
    const { platform, services } = loadConfig({
      env: { ...VARIABLES, ...variables },
      readFile: () => "",
      stat: () => ({ mode: 0o600 }),
      services: Object.fromEntries(allServices.map(({ name, config }) => [name, config])),
      start: definitions.map(({ name }) => name),
    });
    running = await startServer({
      ...{ definitions, platform, services },
      migrationsFolder: MIGRATIONS_FOLDER,
      clock: systemClock,
      log: createLogger({ level: platform.logLevel, mode: platform.mode }),
    });
    await running.ready;
    return { publicUrl: running.publicUrl, internalUrl: running.internalUrl };
  },
  /** As on SIGTERM: calls under way are answered. */
  async stop(): Promise<void> {
    await running![Symbol.asyncDispose]();
  },
  /** How many CheckSession calls it has answered. */
  async questions(): Promise<number> {
    const metrics = await (await fetch(`${running!.internalUrl}/metrics`)).text();
    return [...metrics.matchAll(QUESTIONS)].reduce((sum, [, count]) => sum + Number(count), 0);
  },
});
