/**
 * Rights that the processes of a caller share by Redis, behind those in each one's memory: what one has asked of access, the
 * others need not ask. It is opened in the background, and only the log learns of its failures: who finds nothing asks access.
 */
import type { Clock } from "../clock.ts";
import { openRedis } from "../redis.ts";
import { openSharedRights, SHARED_TIMEOUT_MS, type SharedRights } from "../rights/shared-rights.ts";
import { isInstalled } from "../server-packages.ts";
import type { SimpleLog } from "../simple-log.ts";
import type { ServiceKey } from "../token/service-token.ts";

export interface RedisAddress {
  /** `rediss://:<password>@<host>:<port>`, or `redis://...` in the clear. */
  url: string;
  /** The authorities (PEM) that certify Redis; the well-known ones unless told. */
  ca?: string;
}

export interface RedisRightsOptions extends RedisAddress {
  /** The key towards access. */
  key: ServiceKey;
  clock: Clock;
  log: SimpleLog;
}

type AnswersOfOthers = Pick<SharedRights, "find" | "store"> & AsyncDisposable;

/** Throws a TypeError if the address is none of Redis, or the package ioredis is not installed. */
export function openRedisRights({ url, ca, key, clock, log }: RedisRightsOptions): AnswersOfOthers {
  // Errors of URLs quote them, with the password inside.
  if (!URL.canParse(url) || !/^rediss?:$/.test(new URL(url).protocol)) {
    throw new TypeError("redis.url must be rediss://:<password>@<host>:<port> or redis://...");
  }
  if (!isInstalled("ioredis")) throw new TypeError("redis: the package ioredis is not installed: npm install ioredis");
  const opening = openRedis({ url, ca, shares: "rights", timeoutMs: SHARED_TIMEOUT_MS, clock, log });
  let shared: SharedRights | undefined;
  opening.then(
    (redis) => {
      shared = openSharedRights({ redis, keys: [key], clock });
    },
    () => log.error("Redis cannot be opened: rights are not shared with other processes"),
  );
  return {
    async find(...question) {
      return shared?.find(...question);
    },
    store: (...answer) => shared?.store(...answer),
    async [Symbol.asyncDispose]() {
      const redis = await opening.catch(() => undefined);
      await redis?.[Symbol.asyncDispose]();
    },
  };
}
