/** Redis as whoever asks it sees it where there is none: nothing but no answer. With a real one: test/engines. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { systemClock } from "./clock.ts";
import { ExitCode, StartupError } from "./errors.ts";
import { createLogger } from "./log.ts";
import { openPlatformRedis } from "./platform-redis.ts";
import { openRedis } from "./redis.ts";
import { createSharedPace } from "./rpc/shared-pace.ts";
import { until } from "./testing/until.ts";

const PASSWORD = "kXw3zQ8vT5nB1mR7yL4c";
const LIMITS = { costMs: 1_000, burstMs: 3_000 };

/** Somebody else, who says this to whoever connects. */
async function startOther(words: string | undefined): Promise<AsyncDisposable & { port: number }> {
  const sockets = new AsyncDisposableStack();
  const server = createServer((socket) => {
    sockets.defer(() => void socket.destroy());
    socket.on("error", () => {});
    if (words === undefined) socket.resetAndDestroy();
    else socket.write(words);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  sockets.defer(() => void server.close());
  return { port, [Symbol.asyncDispose]: () => sockets.disposeAsync() };
}

const others: [who: string, words: string | undefined][] = [
  ["who resets", undefined],
  ["who is silent", ""],
  ["who speaks HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n"],
  ["who refuses", "-ERR max number of clients reached\r\n".repeat(3)],
  ["who answers everything at once", "+OK\r\n".repeat(10)],
];
for (const [who, words] of others) {
  test(`with somebody in its place ${who}, each counts for itself, and the log has no password`, async () => {
    await using other = await startOther(words);
    const lines: string[] = [];
    const log = createLogger({ level: "info", mode: "production", destination: { write: (line) => lines.push(line) } });
    const url = `redis://:${PASSWORD}@127.0.0.1:${other.port}`;
    await using redis = await openRedis({ url, shares: "limits", timeoutMs: 250, clock: systemClock, log });
    await using shared = createSharedPace(LIMITS, systemClock, redis, "user");
    const answers = Array.from({ length: 4 }, () => shared.pace("192.0.2.1") > 0);
    assert.deepEqual(answers, [false, false, false, true]);
    await until("it has noticed", async () => {
      await redis.run("return 1", [], []);
      return lines.some((line) => line.includes("Redis does not answer"));
    });
    assert.ok(!lines.join("").includes(PASSWORD));
  });
}

test("authorities that cannot be read stop the start", async () => {
  await using opened = new AsyncDisposableStack();
  const log = createLogger({ level: "fatal", mode: "production" });
  const platform = { redisUrl: "rediss://127.0.0.1:1", redisCaPath: "/nowhere/ca.crt" };
  const opening = openPlatformRedis("limits", { platform, clock: systemClock, log }, { gauge() {} }, opened);
  await assert.rejects(opening, (error) => error instanceof StartupError && error.exitCode === ExitCode.config);
});
