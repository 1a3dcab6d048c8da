/**
 * Damaged requests of every kind: the fault is never ours, and the short way through the server answers as the long one.
 * FUZZ_SEED repeats a run, FUZZ_CASE one case of it; `make prove/fuzz` goes on for longer.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { systemClock } from "../clock.ts";
import { createLogger } from "../log.ts";
import { checkCorpus, fuzz } from "../testing/fuzz.ts";
import type { FuzzRequest } from "../testing/fuzz-corpus.ts";
import { type FuzzServers, recordPublicCorpus, startFuzzServers } from "../testing/fuzz-servers.ts";
import { exchangeBytes } from "../testing/http.ts";

const CASES = 2_000;
const { FUZZ_SEED, FUZZ_CASE } = process.env;
const seed = Number(FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));

describe("damaged requests", () => {
  const faults: string[] = [];
  let servers: FuzzServers;
  let corpus: FuzzRequest[];

  // A promise that nobody awaits ends here, too.
  const noteUncaught = (error: unknown) => void faults.push(`nobody caught ${(error as Error)?.stack ?? error}`);

  before(async () => {
    process.on("uncaughtExceptionMonitor", noteUncaught);
    const destination = { write: (line: string) => void faults.push(line) };
    const log = createLogger({ level: "error", mode: "production", clock: systemClock, destination });
    servers = await startFuzzServers(log);
    corpus = recordPublicCorpus(servers.authorization);
  });

  after(async () => {
    await servers[Symbol.asyncDispose]();
    process.off("uncaughtExceptionMonitor", noteUncaught);
  });

  test("the requests are right before they are damaged", async () => {
    assert.deepEqual(await checkCorpus({ ...servers, corpus }), []);
  });

  test("a call whose connection closes behind the refusal of another one ends quietly", async () => {
    const refused = "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n123456789";
    const { path } = corpus.find(({ what }) => what.includes("UserService/GetMe connect json h1.1"))!;
    for (const url of servers.urls) {
      await exchangeBytes(url, Buffer.from(`${refused}POST ${path} HTTP/1.1\r\nhost: x\r\n\r\n`));
    }
    assert.deepEqual(faults, []);
  });

  test("S-API-21 no damage makes the server say that the fault is its own, whichever way a call takes", async (t) => {
    const cases = FUZZ_CASE === undefined ? { cases: CASES } : { cases: 1, from: Number(FUZZ_CASE) };
    const fastBefore = await servers.fastCalls();
    const report = await fuzz({ ...servers, corpus, seed, ...cases });
    const fastCalls = (await servers.fastCalls()) - fastBefore;
    faults.push(...report.problems);
    const counts = `${report.requests} requests, ${report.compared} cases compared, ${fastCalls} by the fast path`;
    t.diagnostic(`FUZZ_SEED=${seed}: ${counts}`);
    for (const [outcome, count] of report.outcomes) t.diagnostic(`${count} x ${outcome}`);
    assert.deepEqual(faults, [], `repeat with FUZZ_SEED=${seed}`);
    if (FUZZ_CASE === undefined) assert.ok(report.compared > 0 && fastCalls > 0, counts);
  });
});
