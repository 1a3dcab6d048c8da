/**
 * Throughput (P6): one sender with a full queue before it, beside the SDK alone, in turn over the same stand-in. Both rates are taken
 * from the times in the stand-in's ledger, without the first tenth, in which the code is compiled and the access token fetched.
 */
import { type LedgerEntry, readLedger } from "../dev/push-stand-in-ledger.ts";
import type { Goals } from "../prove/figures.ts";
import { addPeople, openPushSetting, tokenOf } from "../prove/push-setting.ts";
import { startWorker } from "../prove/workers.ts";
import { until } from "../testing/until.ts";
import { median } from "./figures.ts";
import type { DirectTask } from "./push-direct.ts";
import { queueNotifications } from "./push-queue.ts";

const ROUNDS = 3;
const WARM_UP = 0.1;
const PATIENCE_MS = 300_000;
const MIN_RATIO = 0.6;

export async function measureThroughput(goals: Goals, count: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const setting = await openPushSetting({ notifications: 1, senders: 1 }, opened);
  const { sql, push, senders } = setting;
  const people = await addPeople(sql, count);
  const task: DirectTask = { ...push, tokens: people.map(tokenOf) };
  const rates: Record<"direct" | "sender", number[]> = { direct: [], sender: [] };
  let accepted = 0;
  const rateOfNewest = async () => {
    const entries = (await readLedger(push.ledgerFile)).slice(accepted);
    accepted += entries.length;
    if (entries.length !== count) throw new Error(`${entries.length} of ${count} pushes were accepted`);
    return rateOf(entries);
  };
  for (let round = 0; round < ROUNDS; round++) {
    {
      await using direct = startWorker("../bench/push-direct");
      await direct.call("push", task);
      rates.direct.push(await rateOfNewest());
    }
    await queueNotifications(sql, { organizationId: crypto.randomUUID(), people, count });
    await senders[0]!.start();
    await until("all are told of", async () => !(await sql`select from deliveries limit 1`).length, PATIENCE_MS);
    await senders[0]!.worker![Symbol.asyncDispose]();
    rates.sender.push(await rateOfNewest());
  }
  const text = (values: number[]) => values.map((rate) => rate.toFixed(0)).join(" ");
  const ratios = rates.sender.map((rate, round) => rate / rates.direct[round]!);
  const raw = `${text(rates.sender)} pushes a second, the SDK alone ${text(rates.direct)}`;
  goals.atLeast("P6 one sender, share of what the SDK alone pushes", median(ratios), MIN_RATIO, raw);
}

/** Pushes in a second. */
function rateOf(entries: LedgerEntry[]): number {
  const counted = entries.slice(Math.floor(entries.length * WARM_UP));
  const tookMs = Date.parse(counted.at(-1)!.time) - Date.parse(counted[0]!.time);
  return (counted.length / tookMs) * 1_000;
}
