/** Worker: the push stand-in in a process that nobody kills, so that its ledger is the truth about those who are killed. */
import { systemClock as clock } from "../clock.ts";
import { startPushStandIn } from "../dev/push-stand-in.ts";
import type { ServiceAccountIdentity } from "../dev/push-stand-in-account.ts";
import { answerCommands } from "./workers.ts";

export interface StandInTask {
  ledgerFile: string;
  serviceAccount: ServiceAccountIdentity;
  projectId: string;
}

answerCommands({
  /** Resolves to its URL. */
  async start(task: StandInTask): Promise<string> {
    const { url } = await startPushStandIn({ ...task, clock });
    return url;
  },
});
