/** Every call has an end: the client's wish, shortened to what is granted, or the default; read and kept in time. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { DurationSchema, durationFromMs, durationMs, EmptySchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { Code } from "../errors.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { allWires, callWire, frameMessage, type Wire, wireName } from "../testing/wire.ts";
import { applyDeadline } from "./deadline.ts";

const limits = { defaultMs: 400, maximumMs: 60_000 };

describe("the header that Connect reads", () => {
  const granted = (contentType: string, header: string, value: string | undefined) => {
    const headers: Record<string, string | undefined> = { "content-type": contentType, [header]: value };
    applyDeadline(headers, limits);
    return headers[header];
  };
  const table: [sent: string | undefined, connect: string, grpc: string][] = [
    [undefined, "400", "400m"],
    ["0", "400", "0"],
    ["00", "400", "00"],
    ["1", "1", "1"],
    ["59999", "59999", "59999"],
    ["60001", "60000", "60001"],
    ["9999999999", "60000", "9999999999"],
    ["0m", "0m", "400m"],
    ["0H", "0H", "400m"],
    ["250m", "250m", "250m"],
    ["2S", "2S", "2000m"],
    ["1M", "1M", "60000m"],
    ["99999999H", "99999999H", "60000m"],
    ["1n", "1n", "1m"],
    ["1500u", "1500u", "1m"],
  ];
  for (const [sent, connect, grpc] of table) {
    test(`"${sent}" becomes "${connect}" and "${grpc}"`, () => {
      for (const type of ["application/proto", "application/json", "application/connect+proto"]) {
        assert.equal(granted(type, "connect-timeout-ms", sent), connect, type);
      }
      for (const type of [
        "application/grpc",
        "Application/gRPC",
        "application/grpc+json",
        "application/grpc-web+proto",
      ]) {
        assert.equal(granted(type, "grpc-timeout", sent), grpc, type);
      }
    });
  }

  for (const sent of ["", " ", "-1", "1.5", "1e3", "soon", "10000000000", "100000000m", "1 m", "1s", "1m, 1m"]) {
    test(`"${sent}" is malformed, and stays for Connect to refuse`, () => {
      assert.equal(granted("application/proto", "connect-timeout-ms", sent), sent);
      assert.equal(granted("application/grpc", "grpc-timeout", sent), sent);
    });
  }

  test("a GET has no content type, and Connect's deadline", () => {
    const headers: Record<string, string> = {};
    applyDeadline(headers, limits);
    assert.deepEqual(headers, { "connect-timeout-ms": "400" });
  });
});

const service = testService("DeadlineService", {
  Left: { input: EmptySchema, output: DurationSchema, access: { who: { case: "public", value: {} } } },
  Hang: { input: EmptySchema, output: EmptySchema, access: { who: { case: "public", value: {} } } },
  Heed: { input: EmptySchema, output: EmptySchema, access: { who: { case: "public", value: {} } } },
  Mine: { input: EmptySchema, output: EmptySchema, access: { who: { case: "user", value: {} } } },
});
const left = methodOf<typeof EmptySchema, typeof DurationSchema>(service, "Left");
const hang = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Hang");
const heed = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Heed");
const mine = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Mine");

let lastSignal: AbortSignal | undefined;
const implementation = {
  left: (_: unknown, { timeoutMs }: HandlerContext) => durationFromMs(timeoutMs()!),
  hang(_: unknown, { signal }: HandlerContext) {
    lastSignal = signal;
    return new Promise(() => {});
  },
  // Like a query or a call to another service that ends with the signal, and with an error of its own.
  heed: (_: unknown, { signal }: HandlerContext) => delay(60_000, undefined, { signal }),
  mine: () => create(EmptySchema),
};
const nameOf = ({ protocol }: Wire) => (protocol === "connect" ? "connect-timeout-ms" : "grpc-timeout");
const value = ({ protocol }: Wire, ms: number) => (protocol === "connect" ? String(ms) : `${ms}m`);
const PASSED = { code: Code.DeadlineExceeded, message: "the deadline has passed", reason: "DEADLINE_EXCEEDED" };

describe("deadlines over the wire", () => {
  let edge: Edge;

  before(async () => {
    const implementations = [
      { desc: service, implementation: implementation as unknown as ServiceImpl<typeof service> },
    ];
    // A default that a busy machine does not meet.
    edge = await startEdge({ implementations, limits: { ...limits, defaultMs: 30_000 } });
  });

  after(() => edge[Symbol.asyncDispose]());

  test("none sent, or 0, means the default; a longer one than is granted is shortened; a shorter one holds", async () => {
    for (const wire of allWires) {
      for (const [sent, expectedMs] of [
        [undefined, 30_000],
        [0, 30_000],
        [90_000_000, 60_000],
        [7_000, 7_000],
      ] as const) {
        const headers = sent === undefined ? [] : [[nameOf(wire), value(wire, sent)] as const];
        const { answer, message } = await callWire(wire, edge.url, { method: left, headers });
        assert.ok(answer, `${wireName(wire)} ${sent} ${message}`);
        const leftMs = durationMs(answer);
        assert.ok(
          leftMs <= expectedMs && leftMs > expectedMs - 5_000,
          `${wireName(wire)} ${sent}: ${leftMs} ms are left`,
        );
      }
    }
  });

  test("a handler that hangs is answered DEADLINE_EXCEEDED, over every wire, and its signal aborts", async () => {
    await Promise.all(
      allWires.map(async (wire) => {
        for (const method of [hang, heed]) {
          const headers = [[nameOf(wire), value(wire, 60)] as const];
          const { code, message, reason, status } = await callWire(wire, edge.url, { method, headers });
          assert.deepEqual({ code, message, reason }, PASSED, `${wireName(wire)} ${method.name}`);
          assert.equal(status, wire.protocol === "connect" ? 504 : 200);
        }
      }),
    );
    assert.equal(lastSignal?.aborted, true);
    const codes = edge.logLines.filter(({ procedure }) => /Hang|Heed/.test(String(procedure))).map(({ code }) => code);
    assert.deepEqual(new Set(codes), new Set(["DeadlineExceeded"]));
    assert.equal(codes.length, allWires.length * 2);
  });

  test("a malformed deadline is INVALID_ARGUMENT", async () => {
    for (const wire of allWires) {
      const headers = [[nameOf(wire), "soon"] as const];
      const { code, message, reason } = await callWire(wire, edge.url, { method: left, headers });
      const expected = {
        code: Code.InvalidArgument,
        message: "the message cannot be read",
        reason: "MALFORMED_MESSAGE",
      };
      assert.deepEqual({ code, message, reason }, expected, wireName(wire));
    }
  });

  test("a body that does not come after authentication is DEADLINE_EXCEEDED, and the connection ends", async () => {
    const wires = allWires.filter(({ http }) => http === "1.1");
    await Promise.all(
      wires.map(async (wire) => {
        const answer = await callWire(wire, edge.url, {
          method: mine,
          body: wire.protocol === "connect" ? Buffer.alloc(3) : frameMessage(Buffer.alloc(0)).subarray(0, 3),
          headers: [
            edge.bearer(),
            [nameOf(wire), value(wire, 100)],
            ["content-length", "50"],
            ["connection", "keep-alive"],
          ],
        });
        const { code, message, reason } = answer;
        assert.deepEqual({ code, message, reason }, PASSED, wireName(wire));
      }),
    );
  });

  test("the same on HTTP/2: the stream ends, and the connection serves on", async () => {
    const session = http2.connect(edge.url);
    const [authorization, bearer] = edge.bearer();
    for (const [type, header, sent] of [
      ["application/proto", "connect-timeout-ms", "100"],
      ["application/grpc", "grpc-timeout", "100m"],
      ["application/grpc-web", "grpc-timeout", "100m"],
    ] as const) {
      const stream = session.request({
        ":method": "POST",
        ":path": `/${service.typeName}/Mine`,
        "content-type": type,
        [header]: sent,
        [authorization]: bearer,
      });
      stream.on("error", () => {});
      stream.resume();
      stream.write(Buffer.alloc(3)); // and never an end
      await new Promise((resolve) => stream.once("close", resolve));
      assert.equal(stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
      const line = edge.logLines.at(-1)!;
      assert.deepEqual(
        [line.code, line.reason, /^user /.test(String(line.caller))],
        ["DeadlineExceeded", PASSED.reason, true],
      );
    }
    assert.equal(session.closed, false);
    session.close();
  });
});
