/** A generator that takes wrong answers for right ones, or loses count, would make every figure a lie. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { systemClock as clock } from "../clock.ts";
import { frameMessage } from "../testing/wire.ts";
import { type LoadOptions, saturate, sendAtRate, type Target } from "./load.ts";
import { recordRequests } from "./recorded-requests.ts";

const answer = frameMessage(Buffer.from("the answer"));
const options: LoadOptions = { connections: 2, callsPerConnection: 3, durationMs: 20, clock };
const headersWith = (token: string) => ({ ":method": "POST", ":path": "/a/b", te: "trailers", authorization: token });

interface Seen {
  path: string | undefined;
  authorization: string | undefined;
  body: Buffer;
}

/** A server with something to say to each stream, and a load for it that goes round these tokens. */
async function startTarget(tokens: string[], respond: (stream: http2.ServerHttp2Stream) => void) {
  const seen: Seen[] = [];
  const sessions = new Set<http2.ServerHttp2Session>();
  const server = http2.createServer().on("session", (session) => sessions.add(session));
  server.on("stream", async (stream, { ":path": path, authorization }) => {
    stream.on("error", () => {});
    const body = Buffer.concat(await stream.toArray());
    seen.push({ path, authorization, body });
    respond(stream);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const requests = await recordRequests(tokens.map(headersWith), frameMessage(Buffer.from("the question")));
  const target: Target = { port: (server.address() as AddressInfo).port, requests, answer };
  return {
    seen,
    target,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function answerWith(bytes: Buffer) {
  return (stream: http2.ServerHttp2Stream) => {
    stream.respond({ ":status": 200 }, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(bytes);
  };
}

test("a closed loop counts what the server was sent, with every token as often as the others", async () => {
  await using server = await startTarget(["one", "two", "three"], answerWith(answer));
  const { calls, callsPerSecond } = await saturate(server.target, options);
  assert.equal(calls, server.seen.length);
  assert.ok(calls >= options.connections * options.callsPerConnection && callsPerSecond > 0);
  for (const { path, body } of server.seen) {
    assert.equal(path, "/a/b");
    assert.deepEqual(body, frameMessage(Buffer.from("the question")));
  }
  const used = Map.groupBy(server.seen, ({ authorization }) => authorization);
  assert.deepEqual([...used.keys()].sort(), ["one", "three", "two"]);
  const counts = [...used.values()].map(({ length }) => length);
  assert.ok(Math.max(...counts) - Math.min(...counts) <= 2 * options.connections, String(counts));
});

test("a steady rate sends as many calls as it should, and times each of them", async () => {
  await using server = await startTarget(["one"], answerWith(answer));
  const { calls, latenciesMs, lagsMs } = await sendAtRate(server.target, 2_000, options);
  assert.deepEqual([calls, latenciesMs.length, lagsMs.length, server.seen.length], [40, 40, 40, 40]);
  assert.ok(latenciesMs.every((latencyMs) => latencyMs > 0));
  assert.ok(lagsMs.every((lagMs) => lagMs >= 0));
});

test("whatever is not the expected answer fails the load", async () => {
  const wrong: Record<string, (stream: http2.ServerHttp2Stream) => void> = {
    "another message": answerWith(frameMessage(Buffer.from("an  answer"))),
    "a longer message": answerWith(frameMessage(Buffer.from("the answers"))),
    "no message": answerWith(Buffer.alloc(0)),
    "a status alone": (stream) => stream.respond({ ":status": 200, "grpc-status": "16" }, { endStream: true }),
    "a reset": (stream) => stream.close(http2.constants.NGHTTP2_CANCEL),
    "a closed connection": (stream) => stream.session?.destroy(),
  };
  for (const [what, respond] of Object.entries(wrong)) {
    await using server = await startTarget(["one"], respond);
    await assert.rejects(saturate(server.target, options), /^Error: load on port/, what);
    await assert.rejects(sendAtRate(server.target, 2_000, options), /^Error: load on port/, what);
  }
});
