/** `concierge serve <service...>`: runs services of this process until it is told to stop. */
import { systemClock } from "../clock.ts";
import type { Configuration, ServiceShapes } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { createLogger, type Logger } from "../log.ts";
import { openLogOutput } from "../log-output.ts";
import { prepareChecks } from "../rpc/messages.ts";
import { startServer } from "../server.ts";
import { configurationOf, servicesNamed } from "./configuration.ts";
import { aborted, type Host } from "./host.ts";

const STANDARD_OUTPUT = 1;
const RISK_REMINDER_MS = 3_600_000;

export async function serve(host: Host, names: string[], { withParent }: { withParent: boolean }): Promise<void> {
  const definitions = servicesNamed(names);
  const configuration = configurationOf(host.env, definitions);
  const { mode, logLevel } = configuration.platform;
  await using destination = openLogOutput(STANDARD_OUTPUT);
  const log = createLogger({ level: logLevel, mode, destination });
  using _reminder = remindOfRisks(configuration, log);
  prepareChecks(definitions.flatMap(({ services }) => services));
  await using server = await startServer({
    ...configuration,
    definitions,
    migrationsFolder: MIGRATIONS_FOLDER,
    clock: systemClock,
    log,
    residentBytes: host.residentBytes,
    droppedLogLines: destination.dropped,
  });
  log.info({ publicUrl: server.publicUrl, internalUrl: server.internalUrl }, "listening");
  const told = withParent ? Promise.race([aborted(host.stop), host.inputEnded()]) : aborted(host.stop);
  await Promise.race([told, server.ready.then(() => told)]);
  log.info("stopping");
}

/** Says at start and each hour which risks the configuration accepts. */
export function remindOfRisks({ acceptedRisks }: Configuration<ServiceShapes>, log: Logger): Disposable {
  const remind = () => {
    for (const { name, description } of acceptedRisks) log.warn({ risk: name }, description);
  };
  remind();
  const timer = setInterval(remind, RISK_REMINDER_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
