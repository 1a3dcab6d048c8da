/** Whole servers that share the limit of the public listener by Redis, and one whose Redis does not answer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { createLogger } from "../../src/log.ts";
import { methodOf, testService } from "../../src/testing/contract.ts";
import { startFaultProxy } from "../../src/testing/fault-proxy.ts";
import { type PublicServer, startPublicServer } from "../../src/testing/public-server.ts";
import { until } from "../../src/testing/until.ts";
import { allWires, callWire } from "../../src/testing/wire.ts";
import { startRedis } from "./redis.ts";

const PER_SECOND = 20;
const BURST = 2 * PER_SECOND;
const PASSWORD = "kXw3zQ8vT5nB1mR7yL4c";

const service = testService("LimitedService", {
  Open: { input: EmptySchema, output: EmptySchema, access: { who: { case: "public", value: {} } } },
});
const implementation = { open: () => ({}) } as unknown as ServiceImpl<typeof service>;
const method = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Open");

function startReplica(variables: Record<string, string>): Promise<PublicServer> {
  return startPublicServer({
    services: [{ name: "limited", services: [service] }],
    implement: () => [{ desc: service, implementation }],
    variables: { CONCIERGE_REQUESTS_PER_SECOND: String(PER_SECOND), ...variables },
    log: createLogger({ level: "fatal", mode: "production" }),
  });
}

async function isLimited({ publicUrl }: PublicServer): Promise<boolean> {
  const { reason } = await callWire(allWires[0]!, publicUrl, { method });
  assert.ok(reason === undefined || reason === "RATE_LIMITED", reason);
  return reason !== undefined;
}

/** Of ten at once: one after the other may be too slow to reach the limit. */
async function isAnyLimited(replica: PublicServer): Promise<boolean> {
  const calls = Array.from({ length: 10 }, () => isLimited(replica));
  return (await Promise.all(calls)).includes(true);
}

async function metric({ server }: PublicServer, name: string): Promise<number> {
  const text = await (await fetch(`${server.internalUrl}/metrics`)).text();
  return Number(new RegExp(`^${name}\\{shares="limits"\\} (\\d+)$`, "m").exec(text)?.[1]);
}

test("an address that one replica limits is limited by the other, by TLS", async () => {
  await using redis = await startRedis({ password: PASSWORD });
  const variables = { CONCIERGE_REDIS_URL: redis.url, CONCIERGE_REDIS_CA_PATH: redis.authorityPath! };
  await using one = await startReplica(variables);
  await using other = await startReplica(variables);
  for (const replica of [one, other]) {
    await until("Redis answers the replica", async () => {
      await isLimited(replica);
      return (await metric(replica, "redis_up")) === 1;
    });
  }
  await until("it is limited", () => isAnyLimited(one));
  let calls = 0;
  await until("the other has heard of it", async () => (await isLimited(other)) || ++calls > BURST);
  assert.ok(calls < BURST / 2, `the other let ${calls} through`);
});

test("with a Redis that accepts and is silent, calls are answered and limited, and the server stops", async () => {
  await using redis = await startRedis();
  await using proxy = await startFaultProxy({ host: "127.0.0.1", port: redis.port });
  const url = new URL(redis.url);
  url.port = String(proxy.port);
  // without a password it is refused in production, so this one gets one that it does not ask for
  await redis.client.config("SET", "requirepass", PASSWORD);
  url.password = PASSWORD;
  await using replica = await startReplica({ CONCIERGE_REDIS_URL: url.href });
  await until("Redis answers", async () => {
    await isLimited(replica);
    return (await metric(replica, "redis_up")) === 1;
  });
  proxy.hang();
  await until("it has noticed", async () => {
    await isLimited(replica);
    return (await metric(replica, "redis_failures_total")) > 0;
  });
  await until("it limits by itself", () => isAnyLimited(replica));
  assert.equal(await metric(replica, "redis_up"), 0);
});
