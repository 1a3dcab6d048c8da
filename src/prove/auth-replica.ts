/** Worker: auth as `concierge serve auth` runs it, in production mode, over a database that others of its kind may share. */
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { createLogger } from "../log.ts";
import { type RunningServer, startServer } from "../server.ts";
import { auth } from "../services/auth/service.ts";
import { answerCommands } from "./workers.ts";

/** Where a replica of auth is. */
export interface Replica {
  publicUrl: string;
  internalUrl: string;
}

/** Both are free ones; and all logouts come from one address. */
const VARIABLES = {
  CONCIERGE_PUBLIC_PORT: "0",
  CONCIERGE_INTERNAL_PORT: "0",
  CONCIERGE_REQUESTS_PER_SECOND: "0",
};
const QUESTIONS = /^rpc_server_call_duration_seconds_count\{.*AuthInternalService\/CheckSession.*\} (\d+)$/gm;
let running: RunningServer | undefined;

answerCommands({
  async start(variables: Record<string, string>): Promise<Replica> {
    const { platform, services } = loadConfig({
      env: { ...VARIABLES, ...variables },
      readFile: () => "",
      stat: () => ({ mode: 0o600 }),
      services: { [auth.name]: auth.config },
      start: [auth.name],
    });
    running = await startServer({
      definitions: [auth],
      platform,
      services,
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
