/**
 * A pace that replicas share by way of Redis. Each decides at once by what it knows, tells Redis up to ten times a
 * second what it let through, and learns what all of them did: no call waits, and Redis does not feel how many there
 * are. Until they know of each other, each lets a whole burst through; what was too much is then paid off by all.
 * Without Redis each counts for itself, as it does in any case: what Redis says can only be more.
 */
import { setTimeout as delay } from "node:timers/promises";
import { LRUCache } from "lru-cache";
import type { Clock } from "../clock.ts";
import type { Redis } from "../redis.ts";
import { createPace, MOST_REMEMBERED, type Pace, type PaceLimits } from "./overload.ts";

const EXCHANGE_MS = 100;
/** Of which others are told at once; of more in that time nobody is told. */
const MOST_PER_EXCHANGE = 5_000;
/**
 * So long can wrong numbers in Redis keep somebody out, and so much of what replicas let through too much is paid off.
 */
const MOST_DEBT_MS = 10_000;

/**
 * The generic cell rate algorithm for many: adds to each key's time of having paid off, and returns how far off it is
 * now. What is no time, or of another type, counts as nothing and is overwritten.
 */
const SCRIPT = `
local clock = redis.call("TIME")
local now = clock[1] * 1000 + clock[2] / 1000
local debts = {}
for i, key in ipairs(KEYS) do
  local stored = redis.pcall("GET", key)
  local paidOffAt = type(stored) == "string" and tonumber(stored) or now
  if not (paidOffAt > now) then paidOffAt = now end
  local debt = math.min(paidOffAt - now + ARGV[i + 1], tonumber(ARGV[1]))
  redis.call("SET", key, string.format("%.3f", now + debt), "PX", math.ceil(debt))
  debts[i] = math.ceil(debt)
end
return debts`;

export interface SharedPace extends AsyncDisposable {
  pace: Pace;
}

/** `scope`: whose pace it is; processes share it with those that say the same. */
export function createSharedPace(limits: PaceLimits, clock: Clock, redis: Redis, scope: string): SharedPace {
  const paidOffAt = new LRUCache<string, number>({ max: MOST_REMEMBERED });
  const ownPace = createPace(limits, clock, paidOffAt);
  let untold = new Map<string, number>();
  let telling: Promise<void> | undefined;
  const closing = new AbortController();

  const exchange = async () => {
    const told = untold;
    untold = new Map();
    const keys = [...told.keys()].map((who) => redis.keyOf("pace", scope, who));
    const debts = debtsIn(await redis.run(SCRIPT, keys, [MOST_DEBT_MS, ...told.values()]), told.size);
    const now = clock.monotonic();
    [...told.keys()].forEach((who, index) => {
      const known = now + (debts?.[index] ?? 0) + (untold.get(who) ?? 0);
      if (known > (paidOffAt.get(who) ?? 0)) paidOffAt.set(who, known);
    });
  };
  const tell = async () => {
    while (untold.size > 0 && !closing.signal.aborted) {
      await exchange();
      await delay(EXCHANGE_MS, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    }
    telling = undefined;
  };
  return {
    pace(who) {
      const waitMs = ownPace(who);
      if (waitMs > 0 || closing.signal.aborted) return waitMs;
      if (untold.size < MOST_PER_EXCHANGE) untold.set(who, (untold.get(who) ?? 0) + limits.costMs);
      telling ??= tell();
      return 0;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await telling;
    },
  };
}

/** Undefined when the answer is none of the script's. */
function debtsIn(answer: unknown, count: number): number[] | undefined {
  if (!Array.isArray(answer) || answer.length !== count) return undefined;
  return answer.map((debt) => (Number.isFinite(debt) ? Math.min(debt, MOST_DEBT_MS) : 0));
}
