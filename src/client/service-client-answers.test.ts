/** Answers that are too long, and streams of answers that end in the middle: what the caller is told, and that it lives on. */
import assert from "node:assert/strict";
import http2, { type ServerHttp2Stream } from "node:http2";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, ConnectError } from "@connectrpc/connect";
import {
  GreeterService,
  SayHelloResponseSchema,
  SayHelloStreamResponseSchema,
} from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../clock.ts";
import { Code, reasonOf } from "../errors.ts";
import { startListener } from "../testing/listener.ts";
import { frameMessage } from "../testing/wire.ts";
import { createServiceKey } from "../token/key-making.ts";
import { connectService } from "./service-client.ts";

const key = createServiceKey("user", "greeter", "service");
const LIMIT_BYTES = 4 * 1024 * 1024;
const grpcHeaders = { ":status": 200, "content-type": "application/grpc+proto" } as const;

/** A peer that takes every stream as it is, and a client of it. */
async function startPeer(onStream: (stream: ServerHttp2Stream) => void) {
  await using opened = new AsyncDisposableStack();
  const listener = opened.use(
    await startListener({
      takeStream(stream) {
        stream.on("error", () => {});
        stream.resume();
        onStream(stream);
        return true;
      },
    }),
  );
  const connection = opened.use(connectService({ baseUrl: listener.url, key, clock: systemClock }));
  const resources = opened.move();
  return {
    client: connection.client(GreeterService),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** A SayHelloResponse, and a SayHelloStreamResponse, of so many bytes. */
function messageOf(bytes: number): Uint8Array {
  // One byte for the tag and four for the length.
  const message = toBinary(SayHelloResponseSchema, create(SayHelloResponseSchema, { message: "x".repeat(bytes - 5) }));
  assert.equal(message.length, bytes);
  return message;
}

/** Answers with these bytes, as a call that went well. */
function answer(stream: ServerHttp2Stream, bytes: Uint8Array, headers: Record<string, string> = {}): void {
  stream.respond({ ...grpcHeaders, ...headers }, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(bytes);
}

async function assertTooLong(call: Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([Code[error.code], reasonOf(error)], ["ResourceExhausted", undefined]);
    return true;
  });
}

describe("an answer of more than four MiB", () => {
  const long: [what: string, give: (stream: ServerHttp2Stream) => void][] = [
    ["as it is", (stream) => answer(stream, frameMessage(messageOf(LIMIT_BYTES + 1)))],
    [
      "compressed",
      (stream) => answer(stream, frameMessage(gzipSync(messageOf(LIMIT_BYTES + 1)), 1), { "grpc-encoding": "gzip" }),
    ],
    [
      "that it only promises",
      (stream) => {
        stream.respond(grpcHeaders);
        stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]));
      },
    ],
  ];
  for (const [what, give] of long) {
    test(`is RESOURCE_EXHAUSTED, and the next call goes on (${what})`, async () => {
      let isLong = true;
      await using peer = await startPeer((stream) =>
        isLong ? give(stream) : answer(stream, frameMessage(messageOf(LIMIT_BYTES))),
      );
      await assertTooLong(peer.client.sayHello({ name: "Ann" }));
      await assertTooLong(collect(peer.client.sayHelloStream({ name: "Ann" })));
      isLong = false;
      assert.equal((await peer.client.sayHello({ name: "Ann" })).message.length, LIMIT_BYTES - 5);
    });
  }
});

async function collect(answers: AsyncIterable<{ message: string }>, into: string[] = []): Promise<string[]> {
  for await (const { message } of answers) into.push(message);
  return into;
}

describe("a stream of answers that ends after the first", () => {
  const hello = toBinary(SayHelloStreamResponseSchema, create(SayHelloStreamResponseSchema, { message: "Hello" }));

  /** What the caller has got, and how the stream ended for it. */
  async function endOf(end: (stream: ServerHttp2Stream) => void, options?: CallOptions & { onFirst?: () => void }) {
    const opened = Promise.withResolvers<ServerHttp2Stream>();
    await using peer = await startPeer((stream) => {
      stream.respond(grpcHeaders, { waitForTrailers: true });
      stream.write(frameMessage(hello));
      opened.resolve(stream);
    });
    const seen: string[] = [];
    try {
      for await (const { message } of peer.client.sayHelloStream({ name: "Ann" }, options)) {
        seen.push(message);
        options?.onFirst?.();
        end(await opened.promise);
      }
    } catch (error) {
      assert.ok(error instanceof ConnectError);
      assert.deepEqual(seen, ["Hello"]);
      return { code: Code[error.code], reason: reasonOf(error), rawMessage: error.rawMessage };
    }
    return assert.fail("it ended without an error");
  }

  const breaks: [how: string, end: (stream: ServerHttp2Stream) => void][] = [
    ["closes the connection", ({ session }) => session!.destroy()],
    ["dies", ({ session }) => void session!.socket.destroy()],
    ["gives up the connection", ({ session }) => session!.destroy(undefined, http2.constants.NGHTTP2_INTERNAL_ERROR)],
    ["cancels the stream", (stream) => stream.close(http2.constants.NGHTTP2_CANCEL)],
    ["refuses the stream", (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)],
    [
      "dies in the middle of a message",
      (stream) => void stream.write(frameMessage(hello).subarray(0, 7), () => stream.session!.destroy()),
    ],
  ];
  for (const [how, end] of breaks) {
    test(`because its peer ${how} is UNAVAILABLE / DEPENDENCY_UNAVAILABLE`, async () => {
      const { code, reason } = await endOf(end, { timeoutMs: 3_000 });
      assert.deepEqual([code, reason], ["Unavailable", "DEPENDENCY_UNAVAILABLE"]);
    });
  }

  test("with an error that the peer answered keeps it", async () => {
    for (const [status, code] of [
      ["14", "Unavailable"],
      ["1", "Canceled"],
      ["4", "DeadlineExceeded"],
      ["5", "NotFound"],
    ] as const) {
      const answered = await endOf((stream) => {
        stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": status, "grpc-message": "so" }));
        stream.end();
      });
      assert.deepEqual(answered, { code, reason: undefined, rawMessage: "so" });
    }
  });

  test("because the caller leaves, or its deadline passes, says that", async () => {
    const leaving = new AbortController();
    const left = await endOf(() => {}, { signal: leaving.signal, onFirst: () => leaving.abort() });
    assert.deepEqual([left.code, left.reason], ["Canceled", undefined]);
    const late = await endOf(() => {}, { timeoutMs: 2_000 });
    assert.deepEqual([late.code, late.reason], ["DeadlineExceeded", undefined]);
  });
});
