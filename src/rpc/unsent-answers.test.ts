/** Answers of handlers that do not fit their contract: whatever the encoder says of them is for our log, not for clients. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { DurationSchema, EmptySchema, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { CallOptions, ServiceImpl } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import { Code, reasonOf } from "../errors.ts";
import { allWays, openClient, wayName } from "../testing/clients.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, type WireAnswer, wireName } from "../testing/wire.ts";

const types = { input: EmptySchema, output: DurationSchema, access: { who: { case: "public", value: {} } } } as const;
const service = testService("MisfitService", {
  Once: { ...types, idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
  Download: { ...types, stream: "server" },
  Upload: { ...types, stream: "client" },
  Talk: { ...types, stream: "both" },
});
const onceMethod = methodOf<typeof EmptySchema, typeof DurationSchema>(service, "Once");

type Empties = AsyncIterable<object>;
type Durations = AsyncIterable<{ seconds: bigint }>;
interface MisfitClient {
  download(input: object, options?: CallOptions): Durations;
  upload(input: Empties, options?: CallOptions): Promise<unknown>;
  talk(input: Empties, options?: CallOptions): Durations;
}

/** Neither encoding takes it: the first field is too large for JSON, the second one no number for the binary form. */
const misfit = { seconds: 10n ** 15n, nanos: "hunter2-77aa1" };
const fitting = { seconds: 1n, nanos: 0 };

/** How many good answers a stream gives before the one that does not fit. */
let goodAnswers = 0;
async function* answers() {
  for (let sent = 0; sent < goodAnswers; sent++) yield fitting;
  yield misfit;
}
const implementation = {
  once: () => misfit,
  download: answers,
  upload: () => misfit,
  talk: answers,
} as unknown as ServiceImpl<typeof service>;

async function* oneMessage() {
  yield {};
}

async function endOf(client: MisfitClient, kind: keyof MisfitClient): Promise<{ seen: number; error: ConnectError }> {
  let seen = 0;
  try {
    if (kind === "upload") await client.upload(oneMessage());
    else for await (const _ of kind === "talk" ? client.talk(oneMessage()) : client.download({})) seen++;
  } catch (thrown) {
    return { seen, error: ConnectError.from(thrown) };
  }
  return assert.fail(`${kind} ended without an error`);
}

for (const fastPath of [true, false]) {
  describe(`an answer that does not fit the contract (fast path ${fastPath})`, () => {
    let edge: Edge;
    before(async () => {
      edge = await startEdge({ implementations: [{ desc: service, implementation }], fastPath });
    });
    after(() => edge[Symbol.asyncDispose]());
    beforeEach(() => {
      edge.logLines.length = 0;
    });

    /** One fault in the log, which knows what the encoder said. */
    async function assertLogged(what: string): Promise<void> {
      const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
      assert.deepEqual([line.level, line.code, line.reason], ["error", "Internal", "INTERNAL"], what);
      assert.match(JSON.stringify(line.error), /Duration|nanos|int32/, what);
    }

    for (const wire of allWires) {
      const gets = wire.protocol === "connect" ? ["POST", "GET"] : ["POST"];
      for (const httpMethod of gets) {
        test(`is "internal error", unary (${httpMethod} ${wireName(wire)})`, async () => {
          const answer: WireAnswer<typeof DurationSchema> = await callWire(wire, edge.url, {
            method: onceMethod,
            httpMethod,
          });
          const { code, message, reason } = answer;
          assert.deepEqual(
            { code, message, reason },
            { code: Code.Internal, message: "internal error", reason: "INTERNAL" },
          );
          await assertLogged(wireName(wire));
        });
      }
    }

    for (const way of allWays) {
      for (const encoding of ["proto", "json"] as const) {
        const kinds = (["download", "upload", "talk"] as const).filter((kind) => way.http === "2" || kind !== "talk");
        for (const kind of kinds) {
          for (const goodOnes of kind === "upload" ? [0] : [0, 2]) {
            test(`is "internal error", ${kind} after ${goodOnes} good ones (${wayName(way)} ${encoding})`, async () => {
              goodAnswers = goodOnes;
              using opened = openClient<MisfitClient>(service, way, edge.url, [], encoding);
              const { seen, error } = await endOf(opened.client, kind);
              assert.deepEqual(
                [seen, error.code, error.rawMessage, reasonOf(error)],
                [goodOnes, Code.Internal, "internal error", "INTERNAL"],
              );
              await assertLogged(kind);
            });
          }
        }
      }
    }
  });
}
