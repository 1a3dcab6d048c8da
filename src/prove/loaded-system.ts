/** What the proofs about scarce things run on: every service that stores something, in processes, and a worker that uses all of them. */
import { makeFolder } from "./database-server.ts";
import { type ProcessOptions, type ServiceProcesses, startServiceProcesses } from "./service-processes.ts";
import { startWorker, type Worker } from "./workers.ts";

/** As many as may register from one address at once. */
const PEOPLE = 20;

export interface LoadedSystem {
  processes: ServiceProcesses;
  /** mixed-load.ts, which has begun. */
  load: Worker;
}

/** Opens it; `opened` closes it. */
export async function openLoadedSystem(
  callsPerSecond: number,
  options: Omit<ProcessOptions, "logFolder">,
  opened: AsyncDisposableStack,
): Promise<LoadedSystem> {
  const logFolder = await makeFolder(opened);
  const processes = await startServiceProcesses({ ...options, logFolder }, opened);
  const load = opened.use(startWorker("mixed-load"));
  const { urls, keys } = processes;
  await load.call("prepare", { processes: { urls, keys }, people: PEOPLE });
  await load.call("begin", { callsPerSecond });
  return { processes, load };
}
