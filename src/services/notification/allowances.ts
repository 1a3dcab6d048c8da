/**
 * Allowances: how many recipients an organization, or a caller without one, may address in a while. Whoever floods uses
 * up its own, and nobody else's. Each is a bucket that fills up again steadily, kept as the time at which it will be full.
 */
import { sql } from "drizzle-orm";
import { type Db, during } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import { allowances } from "./schema.ts";

export interface Wish {
  /** Whose allowance. */
  name: string;
  /** Recipients, at most 10,000. */
  count: number;
  perMinute: number;
}

/** The largest notification there is: whoever has waited may always send one. */
const LEAST_BURST = 10_000;
const BURST_MINUTES = 2;

/** Takes them all or none. RESOURCE_EXHAUSTED / TOO_MANY_NOTIFICATIONS, with the time until there are enough. */
export async function takeAllowance(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  { name, count, perMinute }: Wish,
): Promise<void> {
  const scoped = during(db, signal);
  const secondsFor = (recipients: number) => (recipients * 60) / perMinute;
  const burst = secondsFor(Math.max(LEAST_BURST, BURST_MINUTES * perMinute));
  const now = sql`(select concierge_now())`;
  const fullThen = sql`greatest(${allowances.fullAt}, ${now}) + make_interval(secs => ${secondsFor(count)})`;
  const latest = sql`${now} + make_interval(secs => ${burst})`;
  const taken = await scoped.execute(sql`
    insert into ${allowances} (name, full_at) values (${name}, ${now} + make_interval(secs => ${secondsFor(count)}))
    on conflict (name) do update set full_at = ${fullThen} where ${fullThen} <= ${latest}`);
  if (taken.count > 0) return;
  const [found] = await scoped
    .select({ waitMs: sql<number>`extract(epoch from ${fullThen} - (${latest}))::float8 * 1000` })
    .from(allowances)
    .where(sql`${allowances.name} = ${name}`);
  throw fail(Code.ResourceExhausted, "TOO_MANY_NOTIFICATIONS", "too many notifications, try again later", {
    retryAfterMs: Math.max(1, found?.waitMs ?? 1),
  });
}
