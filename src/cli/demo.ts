/** `concierge demo`: the whole journey once, over a system that is made for it and leaves nothing behind. */
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { systemClock } from "../clock.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import type { Environment } from "../dev/environment.ts";
import { runJourney } from "../dev/journey.ts";
import { startProcesses } from "../dev/processes.ts";
import { readLedger } from "../dev/push-stand-in.ts";
import { createLogger } from "../log.ts";
import { startServer } from "../server.ts";
import { services } from "../services.ts";
import { configurationOf } from "./configuration.ts";
import { openDemoKafka } from "./demo-kafka.ts";
import { openDevelopment } from "./development.ts";
import { aborted, type Host } from "./host.ts";

interface Running extends AsyncDisposable {
  publicUrl(service: string): string;
  internalUrl(service: string): string;
}

export async function demo(host: Host, { processes }: { processes: boolean }): Promise<void> {
  const startedAt = systemClock.monotonic();
  const folder = await mkdtemp(join(tmpdir(), "concierge-demo-"));
  // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
  await chmod(folder, 0o755);
  await using opened = new AsyncDisposableStack();
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const prefix = `concierge_demo_${randomBytes(4).toString("hex")}_`;
  const environment = opened.use(await openDevelopment(host, folder, { prefix, durable: false }));
  const kafka = await openDemoKafka(host, prefix, opened);
  Object.assign(environment.variables, kafka?.variables);
  const running = opened.use(await (processes ? startSeparately(host, environment) : startTogether(host, environment)));
  const startMs = Math.round(systemClock.monotonic() - startedAt);
  const form = processes ? `${services.length} processes, every database its own` : "one process";
  host.print(`Concierge is up in ${startMs} ms: ${form}.\n`);
  await runJourney({
    publicUrl: running.publicUrl,
    internalUrl: running.internalUrl,
    operatorKeys: environment.operatorKeys,
    pushes: () => readLedger(environment.ledgerFile),
    artistCreated: kafka?.artistCreated,
    clock: systemClock,
    print: (line) => host.print(`${line}\n`),
  });
  host.print("The journey is complete.\n");
}

async function startTogether(host: Host, { variables }: Environment): Promise<Running> {
  const ports = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
  const configuration = configurationOf({ CONCIERGE_MODE: "development", ...variables, ...ports }, services);
  const destination = pino.destination({ dest: 2, sync: false });
  const log = createLogger({ level: "warn", mode: "development", destination });
  await using opened = new AsyncDisposableStack();
  const options = {
    ...configuration,
    definitions: services,
    migrationsFolder: MIGRATIONS_FOLDER,
    clock: systemClock,
    log,
  };
  const server = opened.use(await startServer(options));
  await Promise.race([server.ready, aborted(host.stop)]);
  host.stop.throwIfAborted();
  const resources = opened.move();
  return {
    publicUrl: () => server.publicUrl,
    internalUrl: () => server.internalUrl,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function startSeparately(host: Host, { variables }: Environment): Promise<Running> {
  return startProcesses({
    definitions: services,
    variables: { ...variables, CONCIERGE_LOG_LEVEL: "error" },
    node: host.node,
    mainFile: host.mainFile,
    log: (service, text) => host.warn(`${service}: ${text}`),
    signal: host.stop,
  });
}
