/** Answers to requests that are not over: they arrive as a whole, however the client goes on, and end what is left. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import type { ServiceImpl } from "@connectrpc/connect";
import { SayHelloRequestSchema, SayHelloResponseSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, fail } from "../errors.ts";
import { type TestMethod, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { type HeaderLine, sendHttp } from "../testing/http.ts";
import {
  clientOpening,
  FrameFlag,
  FrameType,
  http2Frame,
  postBlock,
  settingsAck,
  windowUpdate,
} from "../testing/http2-frames.ts";
import { openRaw, type RawConnection } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { frameMessage } from "../testing/wire.ts";

const types = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const service = testService("EarlyService", {
  Once: { ...types, ...open },
  Download: { ...types, ...open, stream: "server" },
  Talk: { ...types, ...open, stream: "both" },
  Mine: { ...types, access: { who: { case: "user", value: {} } } },
});
/** More than the kernel keeps for a client that does not read. */
const HUGE_BYTES = 16 * 1024 * 1024;
const DEADLINE_MS = 200;
const implementation = {
  once: () => ({ message: "x".repeat(HUGE_BYTES) }),
  async *download() {},
  async *talk(names: AsyncIterable<{ name: string }>) {
    for await (const { name } of names) {
      if (name === "Ann") throw fail(Code.Aborted, "CONFLICT", "no");
      yield { message: name };
    }
  },
  mine: () => ({}),
} as unknown as ServiceImpl<typeof service>;
const implementations = [{ desc: service, implementation }];
const ann = Buffer.from([0x0a, 3, ...Buffer.from("Ann")]);
const pathOf = (method: string) => `/${service.typeName}/${method}`;

/** Of a request that is refused, and does not end soon. */
const requestHead = [
  `POST ${pathOf("Mine")} HTTP/1.1`,
  "host: x",
  "content-type: application/proto",
  "content-length: 1000000000",
  "\r\n",
].join("\r\n");

/** HEADERS of a POST whose body follows. */
function headersFrame(streamId: number, method: string, type: string, more: HeaderLine[] = []): Buffer {
  const block = postBlock("x", pathOf(method), [["content-type", type], ...more]);
  return http2Frame(FrameType.headers, FrameFlag.endHeaders, streamId, block);
}

const dataFrame = (streamId: number, bytes: Buffer, flags = 0) => http2Frame(FrameType.data, flags, streamId, bytes);
const endFrame = (streamId: number) => dataFrame(streamId, Buffer.alloc(0), FrameFlag.endStream);

/** SETTINGS: how many bytes of each answer the client takes. */
function initialWindow(bytes: number): Buffer {
  const setting = Buffer.alloc(6);
  setting.writeUInt16BE(4); // INITIAL_WINDOW_SIZE
  setting.writeUInt32BE(bytes, 2);
  return http2Frame(FrameType.settings, 0, 0, setting);
}

/** What of a stream came back: "headers", "data", "reset 0", with "end" where its flag said so. */
function storyOf({ frames }: RawConnection, streamId: number): string[] {
  const names: Record<number, string> = { [FrameType.headers]: "headers", [FrameType.data]: "data" };
  return frames
    .filter((frame) => frame.streamId === streamId && frame.type !== FrameType.windowUpdate)
    .map(({ type, flags, payload }) => {
      if (type === FrameType.resetStream) return `reset ${payload.readUInt32BE()}`;
      return `${names[type]}${(flags & FrameFlag.endStream) === 0 ? "" : " end"}`;
    });
}

for (const fastPath of [true, false]) {
  describe(`an early answer (fast path ${fastPath})`, () => {
    let edge: Edge;
    const raw = () => openRaw(Number(new URL(edge.url).port));
    before(async () => {
      edge = await startEdge({ implementations, fastPath });
    });
    after(() => edge[Symbol.asyncDispose]());

    // Connect for Go ends a request short when the headers of the answer arrive, and nghttp2 then resets the stream.
    const shortened = [
      ["Download", "application/grpc"],
      ["Download", "application/grpc-web+proto"],
      ["Download", "application/connect+proto"],
      ["Mine", "application/grpc"],
      ["Mine", "application/grpc-web"],
      ["Mine", "application/proto"],
      ["Mine", "text/plain"],
      ["Nope", "application/grpc"],
      ["Nope", "application/grpc-web"],
      ["Nope", "application/json"],
    ] as const;
    for (const [method, type] of shortened) {
      test(`is there as a whole when its headers are (${method} ${type})`, async () => {
        using connection = await raw();
        const bytes = 1_000_000;
        let atFirst: string[] = [];
        connection.socket.on("data", () => {
          if (atFirst.length === 0) atFirst = storyOf(connection, 1);
        });
        const start = dataFrame(1, frameMessage(Buffer.alloc(bytes)).subarray(0, 1_000));
        const headers = headersFrame(1, method, type, [["content-length", String(bytes + 5)]]);
        connection.socket.write(Buffer.concat([clientOpening(), settingsAck, headers, start]));
        await until("the answer", () => atFirst.length > 0);
        assert.match(atFirst.join(), /^headers end|headers,data end$/);
      });
    }

    for (const type of ["application/grpc", "application/proto", "application/grpc-web"]) {
      test(`is not lost when it is given while the socket is full (${type})`, async () => {
        using connection = await raw();
        const { socket } = connection;
        const before = edge.seen.length;
        const late = headersFrame(1, "Once", type, [
          ["grpc-timeout", `${DEADLINE_MS}m`],
          ["connect-timeout-ms", `${DEADLINE_MS}`],
          ["content-length", "100"],
        ]);
        socket.write(Buffer.concat([clientOpening(), settingsAck, initialWindow(2 * HUGE_BYTES), late]));
        await until("the late call", () => edge.seen.length === before + 1);
        socket.pause();
        const huge = [headersFrame(3, "Once", "application/proto"), dataFrame(3, ann, FrameFlag.endStream)];
        socket.write(Buffer.concat(huge));
        await delay(2 * DEADLINE_MS);
        socket.resume();
        await connection.frame(FrameType.resetStream, 1);
        assert.match(storyOf(connection, 1).join(), /^headers.* end,reset 0$/);
      });
    }

    test("of a full listener is not lost when its client has no room for it yet", async () => {
      await using full = await startEdge({ implementations, fastPath, limits: { callsInFlight: 0 } });
      using connection = await openRaw(Number(new URL(full.url).port));
      const begun = headersFrame(1, "Mine", "application/proto", [["content-length", "100"]]);
      connection.socket.write(Buffer.concat([clientOpening(), settingsAck, initialWindow(0), begun]));
      await connection.frame(FrameType.headers, 1);
      for (let turns = 0; turns < 20; turns++) await turn();
      connection.socket.write(windowUpdate(1, 10_000));
      await connection.frame(FrameType.resetStream, 1);
      assert.match(storyOf(connection, 1).join(), /^headers,data( end|,data end),reset 0$/);
    });

    test("of a stream gives its client a moment to end its own side, and ends it if it does not", async () => {
      using connection = await raw();
      const calls = [1, 3].flatMap((id) => [
        headersFrame(id, "Talk", "application/grpc"),
        dataFrame(id, frameMessage(ann)),
      ]);
      connection.socket.write(Buffer.concat([clientOpening(), settingsAck, ...calls]));
      await until("both answers", () => [1, 3].every((id) => storyOf(connection, id).join().endsWith(" end")));
      connection.socket.write(endFrame(1));
      await connection.frame(FrameType.resetStream, 3);
      assert.equal(storyOf(connection, 3).at(-1), "reset 0");
      assert.ok(!storyOf(connection, 1).join().includes("reset"));
    });

    test("over HTTP/1.1 is not lost when more of the request arrives before it is read", async () => {
      using connection = await raw();
      const { socket } = connection;
      const errors: Error[] = [];
      socket.on("error", (error) => errors.push(error));
      edge.logLines.length = 0;
      socket.pause();
      socket.write(requestHead);
      socket.write(Buffer.alloc(50_000));
      await until("the log line", () => edge.logLines.length > 0);
      for (let pieces = 0; pieces < 3; pieces++) {
        socket.write(Buffer.alloc(20_000));
        for (let turns = 0; turns < 10; turns++) await turn();
      }
      socket.resume();
      await connection.closed();
      assert.match(connection.text(), /^HTTP\/1\.1 401 .*\}$/s);
      assert.deepEqual(errors, []);
    });

    for (const [what, bytes] of [
      ["lasts a second", 1],
      ["ends after some hundred kilobytes", 1_000_000],
    ] as const) {
      test(`over HTTP/1.1 the end of a connection whose client goes on ${what}`, { timeout: 10_000 }, async () => {
        const socket = net.connect({ port: Number(new URL(edge.url).port), host: "127.0.0.1", allowHalfOpen: true });
        socket.on("error", () => {});
        socket.resume();
        const closed = new Promise((resolve) => socket.once("close", resolve));
        socket.write(requestHead);
        const drip = setInterval(() => socket.write(Buffer.alloc(bytes)), 20);
        await closed;
        clearInterval(drip);
        assert.ok(socket.bytesWritten < 20_000_000);
      });
    }

    test("without a method has its gRPC status where gRPC looks for it", async () => {
      const send = (http: "1.1" | "2", type: string) =>
        sendHttp(http, edge.url, {
          httpMethod: "POST",
          path: pathOf("Nope"),
          headers: [["content-type", type]],
          body: Buffer.alloc(5),
        });
      const statusIn = (lines: HeaderLine[]) => lines.find(([name]) => name === "grpc-status")?.[1];
      for (const type of ["application/grpc", "application/grpc+proto", "application/grpc+json"]) {
        const http1 = await send("1.1", type);
        assert.deepEqual([statusIn(http1.headers), statusIn(http1.trailers)], [undefined, "12"], type);
        const http2 = await send("2", type);
        // One frame that ends the stream.
        assert.deepEqual([statusIn(http2.headers), http2.trailers, http2.body.length], ["12", [], 0], type);
      }
      for (const http of ["1.1", "2"] as const) {
        const { status, headers, body } = await send(http, "application/grpc-web+proto");
        assert.deepEqual([status, statusIn(headers), body.length], [200, "12", 0], http);
      }
    });
  });
}
