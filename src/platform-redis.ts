/** Redis as the process's configuration names it, one connection for each use: what waits for one is not held up by another. */
import { readAuthorities } from "./authorities.ts";
import type { Clock } from "./clock.ts";
import type { PlatformConfig } from "./config.ts";
import type { Logger } from "./log.ts";
import { openRedis, type Redis } from "./redis.ts";
import { SHARED_TIMEOUT_MS } from "./rights/shared-rights.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** What processes share by Redis, and how long anybody waits for it. */
const TIMEOUT_MS = { limits: 250, rights: SHARED_TIMEOUT_MS };

export interface PlatformRedisOptions {
  platform: Pick<PlatformConfig, "redisUrl" | "redisCaPath">;
  clock: Clock;
  log: Logger;
}

/** Undefined where none is configured. Throws a StartupError when the authorities cannot be read. */
export async function openPlatformRedis(
  shares: keyof typeof TIMEOUT_MS,
  { platform, clock, log }: PlatformRedisOptions,
  metrics: Pick<Metrics, "gauge">,
  opened: AsyncDisposableStack,
): Promise<Redis | undefined> {
  const { redisUrl: url, redisCaPath } = platform;
  if (url === undefined) return undefined;
  const ca = await readAuthorities("Redis", redisCaPath);
  const redis = opened.use(await openRedis({ url, ca, shares, timeoutMs: TIMEOUT_MS[shares], clock, log }));
  const labels = { shares };
  metrics.gauge({
    name: "redis_up",
    help: "Whether Redis answered when it was last asked",
    labels,
    read: () => (redis.isUp ? 1 : 0),
  });
  metrics.gauge({
    kind: "counter",
    name: "redis_failures_total",
    help: "Questions to Redis, and connections, that failed",
    labels,
    read: () => redis.failures,
  });
  return redis;
}
