/** CLOCK_MONOTONIC in milliseconds: one clock for all processes of a machine, where performance.now() is each one's own. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
