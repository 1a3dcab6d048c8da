/** Redis: whether it answers, how fast, and whether what processes share finds room there. */
import { once } from "node:events";
import { readAuthorities } from "../authorities.ts";
import { causeOf } from "../redis.ts";
import { connectRedis } from "../redis-client.ts";
import { absent, type Check, type DoctorContext, type Finding, ok, warning } from "./finding.ts";

const TIMEOUT_MS = 2_000;
/** What is asked about rights is not waited for any longer. */
const SLOW_MS = 50;

export function redisChecks({ platform, clock }: DoctorContext): Check[] {
  const { redisUrl: url, redisCaPath } = platform;
  if (url === undefined) return [];
  return [
    {
      what: "Redis",
      async run(signal) {
        const ca = await readAuthorities("Redis", redisCaPath);
        const client = await connectRedis({ url, ca, timeoutMs: TIMEOUT_MS });
        // What it says of its connection is told below, once.
        client.on("error", () => {});
        try {
          if (client.status !== "ready") await once(client, "ready", { signal });
          const askedAt = clock.monotonic();
          await client.ping();
          const tookMs = clock.monotonic() - askedAt;
          return [answerFinding(tookMs), ...roomFindings(await client.info("memory"))];
        } catch (error) {
          const remedy =
            "see whether it runs, and whether address and password are right; replicas share nothing without it";
          return [absent(`does not answer (${causeOf(error)})`, remedy)];
        } finally {
          client.disconnect();
        }
      },
    },
  ];
}

function answerFinding(tookMs: number): Finding {
  const finding = `answers in ${tookMs.toFixed(1)} ms`;
  if (tookMs <= SLOW_MS) return ok(finding);
  return warning(finding, `bring it nearer: after ${SLOW_MS} ms each process decides alone`);
}

function roomFindings(info: string): Finding[] {
  const limit = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
  const policy = /^maxmemory_policy:([a-z-]+)/m.exec(info)?.[1];
  if (limit === 0 || policy !== "noeviction") return [];
  return [warning("takes nothing more when its memory is full", "set maxmemory-policy to allkeys-lru")];
}
