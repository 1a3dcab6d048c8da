/** How streams end: with the client, at their time, with their token, or because we stop; and that nothing is left. */
import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import { allWays, openClient } from "../testing/clients.ts";
import { createTestClock } from "../testing/clock.ts";
import { defaultPlatform, type Edge } from "../testing/edge.ts";
import { openHttp2, openRaw } from "../testing/listener.ts";
import {
  ann,
  assertEnd,
  endOf,
  handlers,
  lastForEver,
  nameOf,
  resetStreams,
  type StreamClient,
  seen,
  service,
  startStreams,
  streams,
} from "../testing/stream-service.ts";
import { until } from "../testing/until.ts";
import { limitsOf } from "./routes.ts";

beforeEach(resetStreams);

/** A client of the methods for people, under the names of the open ones. */
function mine(opened: Record<string, (...args: never[]) => unknown>): StreamClient {
  return { download: opened.myDownload, upload: opened.myUpload, talk: opened.myTalk } as unknown as StreamClient;
}

describe("a stream ends", () => {
  let edge: Edge;
  before(async () => {
    edge = await startStreams();
  });
  after(() => edge[Symbol.asyncDispose]());

  for (const one of streams) {
    test(`when its client leaves: the handler's signal aborts, and what it began is ended (${nameOf(one)})`, async () => {
      edge.logLines.length = 0;
      using opened = openClient<StreamClient>(service, one.way, edge.url);
      const leaving = new AbortController();
      const end = endOf(opened.client, one.kind, { signal: leaving.signal });
      await until("the handler runs", () => seen.started === 1);
      leaving.abort();
      assert.equal((await end).code, Code.Canceled);
      await until("the handler has ended", () => seen.ended === 1);
      const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
      assert.deepEqual([line.code, line.reason], ["Canceled", "CANCELED"]);
    });
  }

  for (const http of ["1.1", "2"] as const) {
    test(`when its client leaves while the handler waits for it to read (HTTP/${http})`, async () => {
      let sent = 0;
      handlers.download = async function* () {
        try {
          for (; ; sent++) yield { message: "x".repeat(60_000) };
        } finally {
          seen.ended++;
        }
      };
      const leave = http === "2" ? await stareOverHttp2(edge.url) : await stareOverHttp1(edge.url);
      // Until nothing more fits into the windows and buffers on the way.
      for (let before = -1; before < 0 || before !== sent; await delay(50)) before = sent || -1;
      assert.equal(seen.ended, 0);
      leave();
      await until("the handler has ended", () => seen.ended === 1);
    });
  }
});

/** Asks for a stream of answers and never reads one; what it returns leaves. */
async function stareOverHttp2(url: string): Promise<() => void> {
  const session = await openHttp2(url);
  const stream = session.request({
    ":method": "POST",
    ":path": `/${service.typeName}/Download`,
    "content-type": "application/grpc",
  });
  stream.on("error", () => {});
  stream.end(ann);
  await once(stream, "response");
  return () => void session.destroy();
}

async function stareOverHttp1(url: string): Promise<() => void> {
  const { socket } = await openRaw(Number(new URL(url).port));
  socket.pause();
  const head = [
    `POST /${service.typeName}/Download HTTP/1.1`,
    "host: x",
    "content-type: application/grpc-web",
    `content-length: ${ann.length}`,
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n`);
  socket.write(ann);
  return () => void socket.destroy();
}

describe("the longest life of a stream", () => {
  test("is five minutes where nobody set it, on both listeners", () => {
    for (const side of ["public", "internal"] as const) assert.equal(limitsOf(side, defaultPlatform).streamMs, 300_000);
  });

  test("S-H2-09 an idle stream is DEADLINE_EXCEEDED at the end of it, whatever its client wishes", async () => {
    await using edge = await startStreams({ limits: { streamMs: 300 } });
    for (const ignores of [false, true]) {
      if (ignores) lastForEver();
      await Promise.all(
        streams.map(async (one) => {
          for (const timeoutMs of [undefined, 100_000]) {
            using opened = openClient<StreamClient>(service, one.way, edge.url);
            // Connect's client ends by itself at its own wish; 100 seconds are longer than the test's patience.
            const error = await endOf(opened.client, one.kind, { timeoutMs });
            assertEnd(error, Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed", nameOf(one));
          }
        }),
      );
      if (!ignores) assert.equal(seen.ended, seen.started);
    }
    await until(
      "nothing is open",
      () => edge.logLines.filter(({ procedure }) => procedure).length === 4 * streams.length,
    );
    const codes = edge.logLines.filter(({ procedure }) => procedure).map(({ code }) => code);
    assert.deepEqual(new Set(codes), new Set(["DeadlineExceeded"]));
  });

  test("a client that wishes less gets less", async () => {
    await using edge = await startStreams();
    const headers = [["grpc-timeout", "100m"] as const];
    using opened = openClient<StreamClient>(service, { protocol: "grpc", http: "2" }, edge.url, headers);
    assert.equal(reasonOf(await endOf(opened.client, "upload")), "DEADLINE_EXCEEDED");
  });
});

describe("when the process begins to stop", () => {
  for (const ignores of [false, true]) {
    const handlers = ignores ? "their handlers do not listen" : "their handlers listen";
    test(`R-DEP-02 open streams are UNAVAILABLE / DRAINING, with RetryInfo (${handlers})`, async () => {
      if (ignores) lastForEver();
      const stopping = new AbortController();
      await using edge = await startStreams({ stopping: stopping.signal });
      const clients = new DisposableStack();
      using _clients = clients;
      const ends = streams.map((one) =>
        endOf(clients.use(openClient<StreamClient>(service, one.way, edge.url)).client, one.kind),
      );
      await until("all of them are open", () => seen.started === streams.length);
      const draining = fail(Code.Unavailable, "DRAINING", "the server is stopping", { retryAfterMs: 1_000 });
      stopping.abort(draining);
      for (const [index, end] of ends.entries()) {
        const error = await end;
        assertEnd(error, Code.Unavailable, "DRAINING", "the server is stopping", nameOf(streams[index]!));
        assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n);
      }
      if (!ignores) {
        assert.equal(seen.ended, seen.started);
        assert.deepEqual(new Set(seen.reasons), new Set([draining]));
      }
      // One that comes too late is told the same.
      using late = openClient<StreamClient>(service, { protocol: "grpc", http: "2" }, edge.url);
      assert.equal(reasonOf(await endOf(late.client, "download")), "DRAINING");
    });
  }
});

describe("when the access token that opened it expires", () => {
  test("a stream is UNAUTHENTICATED / TOKEN_EXPIRED, in every protocol", async () => {
    const clock = createTestClock();
    await using edge = await startStreams({ clock });
    const bearer = edge.bearer();
    // Of its five minutes less than two seconds are left, by a clock that stands still: no stream is late.
    clock.advance(298_500);
    const startedAt = performance.now();
    await Promise.all(
      streams.map(async (one) => {
        using opened = openClient<Record<string, () => unknown>>(service, one.way, edge.url, [bearer]);
        const error = await endOf(mine(opened.client), one.kind);
        assertEnd(error, Code.Unauthenticated, "TOKEN_EXPIRED", "the access token has expired", nameOf(one));
      }),
    );
    assert.ok(performance.now() - startedAt > 450, "it ended before its token");
    assert.deepEqual([seen.started, seen.ended], [streams.length, streams.length]);
  });

  test("a stream whose client leaves before leaves no timer behind", async () => {
    await using edge = await startStreams();
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    using opened = openClient<Record<string, () => unknown>>(service, { protocol: "grpc", http: "2" }, edge.url, [
      edge.bearer(),
    ]);
    const before = timers();
    const leaving = new AbortController();
    const ends = Array.from({ length: 20 }, () => endOf(mine(opened.client), "download", { signal: leaving.signal }));
    await until("they are open", () => seen.started === 20);
    assert.ok(timers() >= before + 20);
    leaving.abort();
    await Promise.all(ends);
    await until("their timers are gone", () => timers() <= before + 1);
  });
});

test("R-NET-10 a thousand streams that come and go leave no listener, no timer and no warning", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on("warning", onWarning);
  const stopping = new AbortController();
  await using edge = await startStreams({ stopping: stopping.signal });
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const timersBefore = timers();
  for (const way of allWays.filter(({ http }) => http === "2")) {
    using opened = openClient<StreamClient>(service, way, edge.url);
    for (let round = 1; round <= 4; round++) {
      Object.assign(seen, { started: 0, ended: 0 });
      const leaving = new AbortController();
      const ends = Array.from({ length: 84 }, () => endOf(opened.client, "download", { signal: leaving.signal }));
      await until("they are open", () => seen.started === 84);
      assert.equal(getEventListeners(stopping.signal, "abort").length, 1);
      leaving.abort();
      await Promise.all(ends);
      await until("they are over", () => seen.ended === 84);
    }
  }
  await until("their timers are gone", () => timers() <= timersBefore + 1);
  process.off("warning", onWarning);
  assert.deepEqual(warnings, []);
});
