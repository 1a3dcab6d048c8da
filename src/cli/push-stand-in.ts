/** `concierge push-stand-in`: what takes Firebase's place in development, as a program of its own. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { systemClock } from "../clock.ts";
import { createServiceAccount, identityOf, type ServiceAccountKey, startPushStandIn } from "../dev/push-stand-in.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { credentialsProblem } from "../services/notification-sender/push-credentials.ts";
import { readSecret, writeSecret } from "../token/key-folder.ts";
import { aborted, type Host } from "./host.ts";

/** Of keys that are made here. */
const PROJECT = "concierge-dev";

interface StandInSettings {
  host: string;
  port: string;
  /** Hosts by which others reach it. */
  name: string[];
  /** File that accepted pushes are appended to. */
  ledger: string;
  /** File of the only account that may send. */
  key: string;
}

/** Runs until the host says stop. */
export async function pushStandIn(host: Host, settings: StandInSettings): Promise<void> {
  const port = Number(settings.port);
  const isPort = /^\d+$/.test(settings.port) && port <= 65_535;
  if (!isPort) throw new StartupError("--port is 0 to 65535", ExitCode.usage);
  const key = await readOrMakeKey(settings.key);
  const ledgerFile = settings.ledger;
  const address = { host: settings.host, port, names: settings.name };
  const account = { serviceAccount: identityOf(key), projectId: key.project_id };
  await using standIn = await startPushStandIn({ ...address, ...account, ledgerFile, clock: systemClock });
  host.print(`
The push stand-in is running.

  address    ${standIn.url}   open it in a browser to see what comes
  project    ${key.project_id}
  key        ${settings.key}
  pushes     ${ledgerFile}

For notification-sender: CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT=${standIn.url}
Let it fail:             curl -X PUT -H 'content-type: application/json' -d '[{"fault":"quota"}]' ${standIn.url}/faults

Ctrl-C stops it.
`);
  await aborted(host.stop);
}

async function readOrMakeKey(file: string): Promise<ServiceAccountKey> {
  const found = (await readSecret(file)) as ServiceAccountKey | undefined;
  if (found) {
    const problem = credentialsProblem(found);
    if (problem) throw new StartupError(`${file} ${problem}`, ExitCode.config);
    return found;
  }
  const made = await createServiceAccount(PROJECT);
  await mkdir(dirname(file), { recursive: true });
  await writeSecret(file, made);
  return made;
}
