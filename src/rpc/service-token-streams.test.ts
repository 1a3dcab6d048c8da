/** Service tokens that open streams: good for one stream of one procedure, and needed only at its beginning. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { type CallOptions, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  SayHelloRequestSchema,
  type SayHelloResponse,
  SayHelloResponseSchema,
} from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, type Reason, reasonOf } from "../errors.ts";
import { allWays, openClient, type Way, wayName } from "../testing/clients.ts";
import { createTestClock } from "../testing/clock.ts";
import { type TestMethod, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import type { HeaderLine } from "../testing/http.ts";
import { until } from "../testing/until.ts";

const types = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const callers: Pick<TestMethod, "access"> = { access: { who: { case: "callers", value: { services: ["caller"] } } } };
const service = testService("StreamInternalService", {
  Download: { ...types, ...callers, stream: "server" },
  Upload: { ...types, ...callers, stream: "client" },
  Talk: { ...types, ...callers, stream: "both" },
  Read: {
    ...types,
    ...callers,
    stream: "server",
    idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
  },
});

type Names = AsyncIterable<{ name: string }>;
interface StreamClient {
  download(input: { name: string }, options?: CallOptions): AsyncIterable<SayHelloResponse>;
  upload(input: Names, options?: CallOptions): Promise<SayHelloResponse>;
  talk(input: Names, options?: CallOptions): AsyncIterable<SayHelloResponse>;
  read(input: { name: string }, options?: CallOptions): AsyncIterable<SayHelloResponse>;
}
type Kind = keyof StreamClient;

let handlerRuns = 0;
beforeEach(() => {
  handlerRuns = 0;
});
async function* answer({ name }: { name: string }) {
  handlerRuns++;
  yield { message: name };
}
const implementation = {
  download: answer,
  read: answer,
  async upload(names: Names) {
    handlerRuns++;
    const heard: string[] = [];
    for await (const { name } of names) heard.push(name);
    return { message: heard.join() };
  },
  async *talk(names: Names) {
    handlerRuns++;
    for await (const { name } of names) yield { message: name };
  },
} as unknown as ServiceImpl<typeof service>;

const procedureOf = (kind: Kind) => `/${service.typeName}/${kind[0]!.toUpperCase()}${kind.slice(1)}`;

async function* ann(): Names {
  yield { name: "Ann" };
}

const streams = allWays.flatMap((way) =>
  (["download", "upload", "talk", "read"] as const)
    .filter((kind) => way.http === "2" || kind !== "talk")
    .map((kind) => ({ way, kind, what: `${kind} ${wayName(way)}` })),
);

/** Makes one call, and resolves with its last answer. */
async function call(edge: Edge, { way, kind }: { way: Way; kind: Kind }, token: HeaderLine): Promise<string> {
  using opened = openClient<StreamClient>(service, way, edge.url, [token]);
  const { client } = opened;
  if (kind === "upload") return (await client.upload(ann())).message;
  let last = "";
  const answers = kind === "talk" ? client.talk(ann()) : client[kind]({ name: "Ann" });
  for await (const { message } of answers) last = message;
  return last;
}

async function assertRefused(calling: Promise<unknown>, reason: Reason, what: string): Promise<void> {
  await assert.rejects(calling, (thrown) => {
    const { code, rawMessage } = ConnectError.from(thrown);
    assert.deepEqual([code, rawMessage, reasonOf(thrown)], [Code.Unauthenticated, "unauthenticated", reason], what);
    return true;
  });
}

/** Why the last call was refused, as its line in the log says. */
async function lastRefusal(edge: Edge): Promise<unknown> {
  const line = await until("the log line", () => edge.logLines.findLast(({ procedure }) => procedure));
  edge.logLines.length = 0;
  return line.refusal;
}

function start(clock = createTestClock()) {
  return startEdge({ implementations: [{ desc: service, implementation }], side: "internal", clock });
}

describe("S-HMAC-20 a service token that opens a stream", () => {
  test("is good for its own procedure, without a digest", async () => {
    await using edge = await start();
    for (const stream of streams) {
      assert.equal(
        await call(edge, stream, edge.serviceToken(procedureOf(stream.kind), undefined)),
        "Ann",
        stream.what,
      );
    }
  });

  test("of another procedure is refused", async () => {
    await using edge = await start();
    for (const stream of streams) {
      const other = stream.kind === "talk" ? "upload" : "talk";
      const token = edge.serviceToken(procedureOf(other), undefined);
      await assertRefused(call(edge, stream, token), "UNAUTHENTICATED", stream.what);
      assert.equal(await lastRefusal(edge), "bad_procedure", stream.what);
    }
    assert.equal(handlerRuns, 0);
  });

  test("opens one stream, and as many as it likes of a method without effects", async () => {
    await using edge = await start();
    for (const stream of streams) {
      const token = edge.serviceToken(procedureOf(stream.kind), undefined);
      await call(edge, stream, token);
      edge.logLines.length = 0;
      if (stream.kind === "read") assert.equal(await call(edge, stream, token), "Ann", stream.what);
      else {
        await assertRefused(call(edge, stream, token), "REPLAY", stream.what);
        assert.equal(await lastRefusal(edge), "replay", stream.what);
      }
    }
    assert.equal(handlerRuns, streams.length + streams.filter(({ kind }) => kind === "read").length);
  });

  test("that has expired before the stream opens is refused", async () => {
    const clock = createTestClock();
    await using edge = await start(clock);
    const tokens = streams.map(({ kind }) => edge.serviceToken(procedureOf(kind), undefined));
    clock.advance(120_000);
    for (const [index, stream] of streams.entries()) {
      await assertRefused(call(edge, stream, tokens[index]!), "UNAUTHENTICATED", stream.what);
      assert.equal(await lastRefusal(edge), "expired", stream.what);
    }
    assert.equal(handlerRuns, 0);
  });

  test("may expire while the stream is open", async () => {
    const clock = createTestClock();
    await using edge = await start(clock);
    for (const way of allWays.filter(({ http }) => http === "2")) {
      using opened = openClient<StreamClient>(service, way, edge.url, [
        edge.serviceToken(procedureOf("talk"), undefined),
      ]);
      const later = Promise.withResolvers<void>();
      async function* names(): Names {
        yield { name: "Ann" };
        await later.promise;
        yield { name: "Bob" };
      }
      const answers = opened.client.talk(names())[Symbol.asyncIterator]();
      assert.equal((await answers.next()).value?.message, "Ann");
      clock.advance(120_000);
      later.resolve();
      assert.equal((await answers.next()).value?.message, "Bob", wayName(way));
      assert.equal((await answers.next()).done, true);
    }
  });
});
