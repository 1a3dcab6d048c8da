/** Calls whose body is late or whose client leaves, on the short way and on the long one: nothing of them is left. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type http2 from "node:http2";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code } from "../errors.ts";
import type { Edge } from "../testing/edge.ts";
import {
  annBytes,
  answer,
  empty,
  fastWires,
  greet,
  handler,
  mine,
  myEmpty,
  nothingOpen,
  pathOf,
  startFast,
  timeoutOf,
} from "../testing/fast-service.ts";
import type { HeaderLine } from "../testing/http.ts";
import { openHttp2 } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { frameMessage, type Wire, wireName } from "../testing/wire.ts";

beforeEach(() => {
  handler.act = answer;
});

for (const fastPath of [true, false]) {
  const way = fastPath ? "short" : "long";
  const post = (session: http2.ClientHttp2Session, method: { name: string }, wire: Wire, lines: HeaderLine[] = []) => {
    const stream = session.request({
      ":method": "POST",
      ":path": pathOf(method),
      "content-type": wire.protocol === "grpc" ? "application/grpc" : "application/proto",
      ...Object.fromEntries(lines),
    });
    stream.on("error", () => {});
    return stream.resume();
  };

  describe(`a call on the ${way} way`, () => {
    let edge: Edge;
    before(async () => {
      edge = await startFast({ fastPath, limits: { defaultMs: 250 } });
    });
    after(() => edge[Symbol.asyncDispose]());

    for (const wire of fastWires) {
      test(`S-H2-08 whose body does not come, or drips, is DEADLINE_EXCEEDED in time (${wireName(wire)})`, async () => {
        const body = frameMessage(Buffer.alloc(200));
        for (const sentBytes of [0, 3, 7]) {
          for (const drips of [false, true]) {
            edge.logLines.length = 0;
            using session = await openHttp2(edge.url);
            const startedAt = performance.now();
            const stream = post(session, mine, wire, [edge.bearer()]);
            const response = once(stream, "response");
            let at = sentBytes;
            if (at > 0) stream.write(body.subarray(0, at));
            const drip = () => stream.write(body.subarray(at, ++at));
            const dripping = drips ? setInterval(drip, 20) : undefined;
            const [headers] = await response;
            const closed = stream.closed ? undefined : once(stream, "close");
            clearInterval(dripping);
            await closed;
            assert.ok(performance.now() - startedAt < 2_000, "it took longer than its deadline");
            assert.equal(headers[":status"], wire.protocol === "grpc" ? 200 : 504);
            const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
            assert.deepEqual([line.code, line.reason], ["DeadlineExceeded", "DEADLINE_EXCEEDED"]);
            await nothingOpen(edge);
            assert.equal(session.closed, false);
          }
        }
      });

      test(`whose client leaves aborts what its handler waits for (${wireName(wire)})`, async () => {
        const running = Promise.withResolvers<AbortSignal>();
        handler.act = (_, { signal }) => {
          running.resolve(signal);
          return delay(60_000, undefined, { signal });
        };
        edge.logLines.length = 0;
        using session = await openHttp2(edge.url);
        const stream = post(session, greet, wire, [timeoutOf(wire, 60_000)]);
        stream.end(wire.protocol === "grpc" ? frameMessage(annBytes) : annBytes);
        const signal = await running.promise;
        assert.equal(signal.aborted, false);
        const aborted = once(signal, "abort");
        stream.close(8);
        await aborted;
        const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
        assert.deepEqual([line.level, line.code, line.reason], ["info", "Canceled", "CANCELED"]);
        await nothingOpen(edge);
      });

      test(`whose client left before its handler asks for the signal finds it aborted (${wireName(wire)})`, async () => {
        const running = Promise.withResolvers<void>();
        const gone = Promise.withResolvers<void>();
        const found = Promise.withResolvers<boolean>();
        handler.act = async (_, context) => {
          running.resolve();
          await gone.promise;
          found.resolve(context.signal.aborted);
          return {};
        };
        using session = await openHttp2(edge.url);
        const stream = post(session, greet, wire, [timeoutOf(wire, 60_000)]);
        stream.end(wire.protocol === "grpc" ? frameMessage(annBytes) : annBytes);
        await running.promise;
        stream.close(8);
        await nothingOpen(edge);
        gone.resolve();
        assert.equal(await found.promise, true);
      });

      test(`whose body is empty is read as that, however its end comes (${wireName(wire)})`, async () => {
        using session = await openHttp2(edge.url);
        const endings: Record<string, (stream: http2.ClientHttp2Stream) => unknown> = {
          "with the headers": () => {},
          "in a frame of its own": (stream) => stream.end(),
          "a moment later": (stream) => setTimeout(() => stream.end(), 50),
        };
        for (const method of [empty, myEmpty]) {
          for (const [how, end] of Object.entries(endings)) {
            const stream = session.request(
              {
                ":method": "POST",
                ":path": pathOf(method),
                "content-type": wire.protocol === "grpc" ? "application/grpc" : "application/proto",
                ...Object.fromEntries([edge.bearer(), timeoutOf(wire, 60_000)]),
              },
              { endStream: how === "with the headers" },
            );
            stream.resume();
            const response = once(stream, "response");
            const trailers = wire.protocol === "grpc" ? once(stream, "trailers") : undefined;
            trailers?.catch(() => {});
            // Sends the headers alone, so that the end is a frame of its own.
            if (how !== "with the headers") await new Promise((resolve) => setImmediate(resolve));
            end(stream);
            const [headers] = await response;
            const what = `${method.name}, ${how}`;
            if (wire.protocol === "connect") assert.equal(headers[":status"], 200, what);
            else {
              // gRPC has a frame around an empty message, too.
              const status = headers["grpc-status"] ?? (await trailers)?.[0]["grpc-status"];
              assert.equal(status, String(Code.Unimplemented), what);
            }
            if (!stream.closed) await once(stream, "close");
          }
        }
        await nothingOpen(edge);
      });
    }
  });
}
