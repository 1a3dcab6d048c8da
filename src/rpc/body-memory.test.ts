/** Bodies that would together take more memory than a listener has for them: which are refused, and what goes on. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { describe, test } from "node:test";
import { durationMs, EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code } from "../errors.ts";
import { methodOf, type TestMethod, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { until } from "../testing/until.ts";
import { callWire, FRAME_HEADER_BYTES, frameMessage } from "../testing/wire.ts";
import { messageDigest } from "../token/service-token.ts";
import { BodyMemory } from "./overload.ts";

const types = { input: EmptySchema, output: EmptySchema };
const anybody: TestMethod["access"] = { who: { case: "public", value: {} } };
const signers: TestMethod["access"] = { who: { case: "callers", value: { services: ["caller"] } } };
const SERVICES = {
  open: testService("BodiesService", { Send: { ...types, access: anybody } }),
  signed: testService("BodiesInternalService", { Send: { ...types, access: signers } }),
};
const implementations = Object.values(SERVICES).map((desc) => {
  return { desc, implementation: { send: () => ({}) } as unknown as ServiceImpl<typeof desc> };
});

/** As long as a tenth of the longest; no message of the contract. */
const LARGE = Buffer.alloc(4_900_000);
/** Room for two of them. */
const MEMORY_BYTES = 12 * 1024 * 1024;

interface Way {
  fastPath: boolean;
  protocol: "grpc" | "connect";
  name: keyof typeof SERVICES;
}

const ways: Way[] = [true, false].flatMap((fastPath) =>
  (["grpc", "connect"] as const).flatMap((protocol) =>
    (["open", "signed"] as const).map((name) => ({ fastPath, protocol, name })),
  ),
);

function call(edge: Edge, { protocol, name }: Way, message: Buffer) {
  const method = methodOf<typeof EmptySchema, typeof EmptySchema>(SERVICES[name], "Send");
  const headers = headersFor(edge, name, message);
  return callWire({ protocol, encoding: "proto", http: "2" }, edge.url, { method, message, headers });
}

function pathOf(name: Way["name"]): string {
  return `/${SERVICES[name].typeName}/Send`;
}

function headersFor(edge: Edge, name: Way["name"], message: Buffer) {
  return name === "open" ? [] : [edge.serviceToken(pathOf(name), messageDigest(message))];
}

/** Sends all of a large message but its last byte. Returns when the server has it. */
async function sendForever(session: http2.ClientHttp2Session, edge: Edge, { protocol, name }: Way) {
  const stream = session.request({
    ":method": "POST",
    ":path": pathOf(name),
    "content-type": protocol === "grpc" ? "application/grpc" : "application/proto",
    ...Object.fromEntries(headersFor(edge, name, LARGE)),
  });
  stream.on("error", () => {});
  const body = protocol === "grpc" ? frameMessage(LARGE) : LARGE;
  await new Promise((resolve) => stream.write(body.subarray(0, -1), resolve));
  await new Promise((resolve) => session.ping(resolve));
  return stream;
}

describe("large bodies that never end", () => {
  for (const way of ways) {
    const { fastPath, protocol, name } = way;
    test(`are refused beyond the memory for them: ${protocol}, ${name}, ${fastPath ? "fast" : "long"} way`, async () => {
      await using edge = await startEdge({
        implementations,
        fastPath,
        limits: { messageBytes: LARGE.length, bodyMemoryBytes: MEMORY_BYTES },
      });
      const session = http2.connect(edge.url);
      const held = [await sendForever(session, edge, way), await sendForever(session, edge, way)];
      const { code, reason } = await call(edge, way, LARGE);
      assert.deepEqual([code, reason], [Code.ResourceExhausted, "OVERLOADED"]);
      assert.ok((await call(edge, way, Buffer.alloc(0))).answer);
      assert.ok(held.every(({ closed }) => !closed));
      session.destroy();
      await until("their memory is given back", async () => {
        return (await call(edge, way, LARGE)).reason === "MALFORMED_MESSAGE";
      });
    });
  }
});

test("who is refused for memory is told when to try again, and takes none", () => {
  const memory = new BodyMemory(200_000);
  const [one, other] = [{ heldBytes: 0 }, { heldBytes: 0 }];
  assert.equal(memory.hold(one, 100_000 + FRAME_HEADER_BYTES), undefined);
  const [retry] = memory.hold(other, 100_000)!.findDetails(RetryInfoSchema);
  assert.equal(durationMs(retry!.retryDelay!), 1_000);
  assert.equal(other.heldBytes, 0);
  memory.giveBack(one);
  assert.equal(memory.hold(other, 200_000), undefined);
  assert.equal(memory.hold(one, 64 * 1024), undefined, "a small one is not counted");
});
