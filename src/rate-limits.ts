/**
 * How many calls of one address a process lets through: counted by itself, or together with its replicas when there is
 * Redis.
 */
import { openPlatformRedis } from "./platform-redis.ts";
import { createRateLimit, type RateLimit } from "./rpc/overload.ts";
import { createSharedPace } from "./rpc/shared-pace.ts";
import type { ServerOptions } from "./server.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** The limit of the public listener. Processes that run the same services share it. */
export async function openRateLimit(
  options: ServerOptions,
  metrics: Metrics,
  opened: AsyncDisposableStack,
): Promise<RateLimit> {
  const { definitions, platform, clock } = options;
  const { requestsPerSecond } = platform;
  const redis = requestsPerSecond === 0 ? undefined : await openPlatformRedis("limits", options, metrics, opened);
  if (!redis) return createRateLimit(requestsPerSecond, clock);
  const scope = definitions
    .map(({ name }) => name)
    .sort()
    .join(",");
  return createRateLimit(requestsPerSecond, clock, (limits) => {
    return opened.use(createSharedPace(limits, clock, redis, scope)).pace;
  });
}
