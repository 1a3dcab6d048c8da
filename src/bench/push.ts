/**
 * `make bench/push`: how fast one sender pushes what waits, beside the Firebase SDK driven directly in the same run (P6); how soon
 * a notification is pushed, alone and beside an organization that has queued 100,000 (P6, R-NOT-14, S-NOT-12); and what an inbox of
 * 100,000 notifications costs its reader (P9). ONLY=throughput, latency or growth takes one part, QUICK=1 fewer pushes.
 * Ends with 1 if a goal is missed.
 */
import { Goals } from "../prove/figures.ts";
import { machineLine } from "./figures.ts";
import { measureInboxes } from "./push-growth.ts";
import { measureLatency } from "./push-latency.ts";
import { measureThroughput } from "./push-throughput.ts";

async function main(): Promise<number> {
  const { ONLY, QUICK } = process.env;
  const goals = new Goals("push");
  goals.info(machineLine());
  const wants = (name: string) => !ONLY || ONLY === name;
  if (wants("throughput")) await measureThroughput(goals, QUICK ? 5_000 : 20_000);
  if (wants("latency")) await measureLatency(goals, QUICK ? 50_000 : 100_000);
  if (wants("growth")) await measureInboxes(goals);
  goals.info(`at the end: ${machineLine()}`);
  return goals.missed === 0 ? 0 : 1;
}

process.exitCode = await main();
