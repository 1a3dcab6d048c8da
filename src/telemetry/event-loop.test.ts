/** That no delay of the event loop goes unseen, whenever it begins. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "../log.ts";
import { MAX_LAG_MS, watchEventLoop } from "./event-loop.ts";

const WATCHED_EVERY_MS = 1_000;

test("R-NET-09 a delay that begins as the watch has just looked is seen", async () => {
  using watch = watchEventLoop(createLogger({ level: "fatal", mode: "development" }));
  const { promise, resolve } = Promise.withResolvers<number>();
  let looks = 0;
  // Made after the watch's own timer, and as long: it fires right behind it.
  const timer = setInterval(() => {
    looks += 1;
    if (looks === 1) holdUp(MAX_LAG_MS + 200);
    else setImmediate(() => resolve(watch.lagMs()));
  }, WATCHED_EVERY_MS);
  const lagMs = await promise;
  clearInterval(timer);
  assert.ok(lagMs > MAX_LAG_MS, `${lagMs} ms`);
});

function holdUp(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}
