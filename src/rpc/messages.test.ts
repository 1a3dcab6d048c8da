/** Messages that cannot be read or break the contract: the client's mistake, in words that say no more. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { StructSchema } from "@bufbuild/protobuf/wkt";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { ConnectError, createClient, type ServiceImpl } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code } from "../errors.ts";
import { services } from "../services.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { allWires, callWire, frameMessage, type Wire, wireName } from "../testing/wire.ts";
import { prepareChecks } from "./messages.ts";

const service = testService("EdgeService", {
  Echo: { input: StructSchema, output: StructSchema, access: { who: { case: "public", value: {} } } },
});
const echo = methodOf<typeof StructSchema, typeof StructSchema>(service, "Echo");
const { login } = AuthService.method;
const { registerDevice, listMyNotifications } = NotificationService.method;

let handlerRuns = 0;
beforeEach(() => {
  handlerRuns = 0;
});
const count = (message: unknown) => {
  handlerRuns++;
  return message;
};
const answering = (...names: string[]) => Object.fromEntries(names.map((name) => [name, count])) as unknown;
const implementations = [
  { desc: service, implementation: answering("echo") as ServiceImpl<typeof service> },
  { desc: AuthService, implementation: answering("login", "registerUser", "logout") as ServiceImpl<typeof service> },
  {
    desc: NotificationService,
    implementation: answering("registerDevice", "listMyNotifications") as ServiceImpl<typeof service>,
  },
];
const [protoWires, jsonWires] = (["proto", "json"] as const).map((encoding) =>
  allWires.filter((wire) => wire.encoding === encoding),
) as [Wire[], Wire[]];
const CODEC = { gzip: gzipSync, br: brotliCompressSync };

/** A message as it is sent compressed: of the whole body, or inside the frame. */
function compressed({ protocol }: Wire, message: Uint8Array, name: keyof typeof CODEC) {
  const bytes = CODEC[name](message);
  if (protocol === "connect") return { body: bytes, headers: [["content-encoding", name] as const] };
  return { body: frameMessage(bytes, 1), headers: [["grpc-encoding", name] as const] };
}

const CANNOT_BE_READ = {
  code: Code.InvalidArgument,
  message: "the message cannot be read",
  reason: "MALFORMED_MESSAGE",
};

function assertRefused(answer: Awaited<ReturnType<typeof callWire>>, expected: typeof CANNOT_BE_READ, what: string) {
  const { code, message, reason, status } = answer;
  assert.deepEqual({ code, message, reason }, expected, what);
  assert.ok(status < 500, what);
}

/** `{"a":{"a":...{}}}`; each level is two messages, Struct and Value. */
const nested = (levels: number) => Buffer.from(`${'{"a":'.repeat(levels)}{}${"}".repeat(levels)}`);

function nestedBinary(levels: number): Uint8Array {
  // A tag and a length around what is inside, from the innermost out: Struct.fields, its value, Value.struct_value.
  let bytes: Buffer = Buffer.alloc(0);
  const wrap = (tag: number, inside: Buffer) => {
    const length: number[] = [];
    for (let rest = inside.length; ; rest >>>= 7) {
      if (rest < 0x80) {
        length.push(rest);
        break;
      }
      length.push((rest & 0x7f) | 0x80);
    }
    return Buffer.concat([Buffer.from([tag, ...length]), inside]);
  };
  for (let level = 0; level < levels; level++) bytes = wrap(0x0a, wrap(0x12, wrap(0x2a, bytes)));
  return bytes;
}

describe("messages", () => {
  let edge: Edge;

  before(async () => {
    edge = await startEdge({ implementations });
  });

  after(() => edge[Symbol.asyncDispose]());

  test("S-API-05 messages nested deeper than 100 are refused, in JSON and in binary", async () => {
    for (const levels of [101, 200, 10_000]) {
      for (const wire of jsonWires) {
        // 10,000 levels are 60 KB of JSON, just under the limit.
        assertRefused(
          await callWire(wire, edge.url, { method: echo, message: nested(levels) }),
          CANNOT_BE_READ,
          wireName(wire),
        );
      }
    }
    for (const levels of [101, 1_000]) {
      for (const wire of protoWires) {
        const answer = await callWire(wire, edge.url, { method: echo, message: nestedBinary(levels) });
        assertRefused(answer, CANNOT_BE_READ, wireName(wire));
      }
    }
    assert.equal(handlerRuns, 0);
    const [wire] = jsonWires;
    assert.ok((await callWire(wire!, edge.url, { method: echo, message: nested(40) })).answer);
    const binary = await callWire(protoWires[0]!, edge.url, { method: echo, message: nestedBinary(20) });
    assert.ok(binary.answer);
  });

  const overlong = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
  const malformed: Record<string, number[]> = {
    "a truncated tag": [0x80],
    "a truncated length": [0x0a, 0x80],
    "a length past the end": [0x0a, 0x7f, 0x41],
    "a length past 2^31": [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x41],
    "invalid UTF-8": [0x0a, 0x02, 0xc3, 0x28],
    "a UTF-8 surrogate": [0x0a, 0x03, 0xed, 0xa0, 0x80],
    "overlong UTF-8": [0x0a, 0x02, 0xc0, 0x80],
    "field number 0": [0x02, 0x01, 0x41],
    "wire type 7": [0x0f],
    "a tag of more than ten bytes": [...overlong, 0x01],
    "a length of more than ten bytes": [0x0a, ...overlong, 0x01],
    "an end of a group that did not start": [0x0c],
    "groups that do not end": new Array(5_000).fill(0x0b),
  };
  for (const [name, bytes] of Object.entries(malformed)) {
    test(`S-API-07 ${name}: INVALID_ARGUMENT in generic words, plain and compressed`, async () => {
      for (const wire of protoWires) {
        const message = Buffer.from(bytes);
        const send = (parts: object) => callWire(wire, edge.url, { method: login, ...parts });
        assertRefused(await send({ message }), CANNOT_BE_READ, wireName(wire));
        for (const codec of ["gzip", "br"] as const) {
          assertRefused(await send(compressed(wire, message, codec)), CANNOT_BE_READ, `${wireName(wire)} ${codec}`);
        }
      }
      assert.equal(handlerRuns, 0);
    });
  }

  test("S-API-07 a ten-byte varint that overflows its number is refused", async () => {
    for (const wire of protoWires) {
      const message = Buffer.from([0x08, ...overlong.slice(0, 9), 0x7f, ...overlong]);
      const answer = await callWire(wire, edge.url, { method: listMyNotifications, message, headers: [edge.bearer()] });
      assertRefused(answer, CANNOT_BE_READ, wireName(wire));
    }
  });

  test("S-API-07 what is no JSON, or no JSON of the message, is refused, plain and compressed", async () => {
    const texts = ["", "{", "[]", "1", "nul", '{"email":1}', '{"email":{}}', "{'email':''}", '{"email":"\\x"}', "\0"];
    const bodies = [
      ...texts.map((text) => Buffer.from(text)),
      Buffer.from('{"email":"\xc3(","password":"x"}', "latin1"),
    ];
    for (const wire of jsonWires) {
      for (const message of bodies) {
        const send = (parts: object) => callWire(wire, edge.url, { method: login, ...parts });
        assertRefused(await send({ message }), CANNOT_BE_READ, `${wireName(wire)} ${message}`);
        assertRefused(await send(compressed(wire, message, "gzip")), CANNOT_BE_READ, `${wireName(wire)} ${message}`);
      }
    }
    assert.equal(handlerRuns, 0);
  });

  test("S-API-04 S-API-07 what is not compressed as it says is refused, also while its deadline passes", async () => {
    const whole = gzipSync(Buffer.alloc(1_000));
    for (const bytes of [Buffer.from("no gzip at all"), whole.subarray(0, whole.length - 9), whole.subarray(0, 5)]) {
      for (const wire of protoWires) {
        const parts = {
          ...compressed(wire, Buffer.alloc(0), "gzip"),
          body: wire.protocol === "connect" ? bytes : frameMessage(bytes, 1),
        };
        assertRefused(await callWire(wire, edge.url, { method: login, ...parts }), CANNOT_BE_READ, wireName(wire));
        const timeout = [wire.protocol === "connect" ? "connect-timeout-ms" : "grpc-timeout", "1"] as const;
        const unit = wire.protocol === "connect" ? "" : "m";
        const headers = [...parts.headers, [timeout[0], timeout[1] + unit] as const];
        const late = await callWire(wire, edge.url, { method: login, ...parts, headers });
        assert.ok(["MALFORMED_MESSAGE", "DEADLINE_EXCEEDED"].includes(String(late.reason)), wireName(wire));
      }
    }
  });

  test("S-API-21 what cannot be read is said in our words, also while its deadline passes", async () => {
    for (const wire of allWires) {
      const timeout =
        wire.protocol === "connect" ? (["connect-timeout-ms", "1"] as const) : (["grpc-timeout", "1n"] as const);
      // Decompressing takes until after the deadline.
      const { body, headers } = compressed(wire, Buffer.from("no message at all".repeat(1_000)), "gzip");
      const late = await callWire(wire, edge.url, { method: login, body, headers: [...headers, timeout] });
      assert.ok(["MALFORMED_MESSAGE", "DEADLINE_EXCEEDED"].includes(String(late.reason)), wireName(wire));
      assert.doesNotMatch(String(late.message), /illegal|token|JSON/, wireName(wire));
    }
  });

  test("S-API-04 a compression that we do not have is UNIMPLEMENTED", async () => {
    for (const wire of allWires) {
      const name = wire.protocol === "connect" ? "content-encoding" : "grpc-encoding";
      const parts = { headers: [[name, "zstd"] as const], frameFlags: 1 };
      const { code, reason, status } = await callWire(wire, edge.url, { method: login, ...parts });
      const expectedStatus = wire.protocol === "connect" ? 501 : 200;
      assert.deepEqual([code, reason, status], [Code.Unimplemented, "UNIMPLEMENTED", expectedStatus], wireName(wire));
    }
  });

  test("S-API-19 no message, two of them, or an unannounced compression: what gRPC says of each", async () => {
    const message = toBinary(login.input, create(login.input, { email: "ann@example.com", password: "p" }));
    const one = frameMessage(message);
    for (const wire of protoWires.filter(({ protocol }) => protocol !== "connect")) {
      const send = async (body: Uint8Array) => {
        const { code, reason } = await callWire(wire, edge.url, { method: login, body });
        return [code, reason];
      };
      const countIsWrong = [Code.Unimplemented, "UNIMPLEMENTED"];
      assert.deepEqual(await send(Buffer.alloc(0)), countIsWrong, wireName(wire));
      assert.deepEqual(await send(Buffer.concat([one, one])), countIsWrong, wireName(wire));
      assert.deepEqual(await send(frameMessage(message, 1)), [Code.Internal, "MALFORMED_MESSAGE"], wireName(wire));
      assert.deepEqual(await send(one.subarray(0, 9)), [Code.InvalidArgument, "MALFORMED_MESSAGE"], wireName(wire));
    }
  });

  test("S-API-08 an enum number or name that the contract does not have, or UNSPECIFIED, is refused", async () => {
    const broken = { code: Code.InvalidArgument, reason: "INVALID_REQUEST" };
    for (const wire of allWires) {
      const send = async (message: object) => {
        const { code, reason } = await callWire(wire, edge.url, {
          method: registerDevice,
          message,
          headers: [edge.bearer()],
        });
        return { code, reason };
      };
      for (const platform of [9999, -1, 0])
        assert.deepEqual(await send({ token: "t", platform }), broken, wireName(wire));
      if (wire.encoding === "json") {
        for (const text of ['"PLATFORM_TOASTER"', '"ios"', "1.5", "true"]) {
          const message = Buffer.from(`{"token":"t","platform":${text}}`);
          assert.deepEqual(await send(message), { code: Code.InvalidArgument, reason: "MALFORMED_MESSAGE" }, text);
        }
      }
    }
    assert.equal(handlerRuns, 0);
  });

  test("S-API-09 an unknown JSON field is refused, wherever it stands", async () => {
    for (const wire of jsonWires) {
      for (const text of [
        '{"email":"a@b.c","password":"x","role":"admin"}',
        '{"Email":"a@b.c"}',
        '{"__proto__":{}}',
        '{"constructor":1}',
      ]) {
        const answer = await callWire(wire, edge.url, { method: login, message: Buffer.from(text) });
        assertRefused(answer, CANNOT_BE_READ, `${wireName(wire)} ${text}`);
      }
    }
    assert.equal(handlerRuns, 0);
  });

  test("S-API-11 NUL, and in JSON half a surrogate pair, do not reach a handler", async () => {
    for (const wire of allWires) {
      const texts = wire.encoding === "json" ? ["\\u0000", "\\ud800", "\\udc00\\ud800"] : ["\0"];
      for (const text of texts) {
        const json = Buffer.from(`{"email":"a${text}","password":"x"}`);
        const message = wire.encoding === "json" ? json : { email: `a${text}`, password: "x" };
        const { code, reason } = await callWire(wire, edge.url, { method: login, message });
        // Half a pair is no text for the decoder already.
        const expected = text.startsWith("\\ud") ? "MALFORMED_MESSAGE" : "INVALID_REQUEST";
        assert.deepEqual([code, reason], [Code.InvalidArgument, expected], `${wireName(wire)} ${text}`);
      }
    }
    assert.equal(handlerRuns, 0);
  });

  test("what breaks the contract's rules: INVALID_ARGUMENT with the violations and INVALID_REQUEST", async () => {
    const options = { baseUrl: edge.url, httpVersion: "1.1" as const };
    for (const transport of [createConnectTransport(options), createGrpcWebTransport(options)]) {
      const client = createClient(AuthService, transport);
      const refused = client.registerUser({ email: "no address", password: "" }).then(
        () => assert.fail("it was not refused"),
        (error) => ConnectError.from(error),
      );
      const error = await refused;
      assert.equal(error.code, Code.InvalidArgument);
      const [violations] = error.findDetails(ViolationsSchema);
      const fields = violations!.violations.map(({ field }) => field?.elements.map(({ fieldName }) => fieldName));
      assert.deepEqual(fields, [["email"], ["password"]]);
      const infos = error.findDetails(ErrorInfoSchema).map(({ reason, domain }) => ({ reason, domain }));
      assert.deepEqual(infos, [{ reason: "INVALID_REQUEST", domain: "concierge" }]);
    }
    assert.equal(handlerRuns, 0);
  });

  test("every reason comes with the domain of the product, in every protocol", async () => {
    for (const wire of allWires.filter(({ protocol }) => protocol === "connect")) {
      const { body } = await callWire(wire, edge.url, { method: login, message: Buffer.from([0xff]) });
      const [detail] = JSON.parse(String(body)).details;
      assert.equal(detail.type, "google.rpc.ErrorInfo");
      assert.deepEqual(detail.debug, { reason: "MALFORMED_MESSAGE", domain: "concierge" });
    }
  });
});

test("the rules of every contract can be compiled", () => {
  for (const { services: descriptors } of services) prepareChecks(descriptors);
});
