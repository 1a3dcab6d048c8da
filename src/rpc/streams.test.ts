/** How streams end: with the client, with the handler, with a message that is wrong, at their time, or because we stop. */
import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import type { CallOptions, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import {
  type SayHelloRequest,
  SayHelloRequestSchema,
  type SayHelloResponse,
  SayHelloResponseSchema,
} from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, fail, type Reason, reasonOf } from "../errors.ts";
import { allWays, openClient, type Way, wayName } from "../testing/clients.ts";
import { createTestClock } from "../testing/clock.ts";
import { type TestMethod, testService } from "../testing/contract.ts";
import { defaultPlatform, type Edge, type EdgeOptions, startEdge } from "../testing/edge.ts";
import { type HeaderLine, sendHttp } from "../testing/http.ts";
import { openHttp2, openRaw } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { frameMessage } from "../testing/wire.ts";
import { limitsOf } from "./routes.ts";

const types = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const user: Pick<TestMethod, "access"> = { access: { who: { case: "user", value: {} } } };
const service = testService("StreamService", {
  Download: { ...types, ...open, stream: "server" },
  Upload: { ...types, ...open, stream: "client" },
  Talk: { ...types, ...open, stream: "both" },
  MyDownload: { ...types, ...user, stream: "server" },
  MyUpload: { ...types, ...user, stream: "client" },
  MyTalk: { ...types, ...user, stream: "both" },
});

type Names = AsyncIterable<{ name: string }>;
type Answers = AsyncIterable<SayHelloResponse>;
interface StreamClient {
  download(input: { name: string }, options?: CallOptions): Answers;
  upload(input: Names, options?: CallOptions): Promise<SayHelloResponse>;
  talk(input: Names, options?: CallOptions): Answers;
}
type Kind = keyof StreamClient;

/** What the methods do; each test chooses. */
let download: (input: SayHelloRequest, context: HandlerContext) => AsyncIterable<{ message: string }>;
let upload: (input: AsyncIterable<SayHelloRequest>, context: HandlerContext) => Promise<{ message: string }>;
let talk: (input: AsyncIterable<SayHelloRequest>, context: HandlerContext) => AsyncIterable<{ message: string }>;

const callDownload: typeof download = (input, context) => download(input, context);
const callUpload: typeof upload = (input, context) => upload(input, context);
const callTalk: typeof talk = (input, context) => talk(input, context);
const implementation = {
  ...{ download: callDownload, upload: callUpload, talk: callTalk },
  ...{ myDownload: callDownload, myUpload: callUpload, myTalk: callTalk },
} as unknown as ServiceImpl<typeof service>;
const implementations = [{ desc: service, implementation }];

/** What became of the handlers of a test. */
const seen = { started: 0, ended: 0, reasons: [] as unknown[], names: [] as string[] };
const SECRET = "hunter2-51ad7";
const never = new Promise<never>(() => {});
/** A frame with the name "Ann". */
const ann = frameMessage(Buffer.from([0x0a, 3, ...Buffer.from("Ann")]));

/** Handlers that last until their signal aborts. */
function lastUntilAborted(): void {
  const follow = async (signal: AbortSignal) => {
    if (!signal.aborted) await once(signal, "abort");
    seen.reasons.push(signal.reason);
  };
  download = async function* (_, { signal }) {
    seen.started++;
    try {
      yield { message: "open" };
      await follow(signal);
    } finally {
      seen.ended++;
    }
  };
  upload = async (_, { signal }) => {
    seen.started++;
    await follow(signal);
    seen.ended++;
    return { message: "too late" };
  };
  talk = (_, context) => download({} as SayHelloRequest, context);
}

/** Handlers that hear nothing. */
function lastForEver(): void {
  download = async function* () {
    seen.started++;
    yield { message: "open" };
    await never;
  };
  upload = async () => {
    seen.started++;
    return await never;
  };
  talk = () => download({} as SayHelloRequest, {} as HandlerContext);
}

/** Handlers that answer every name, and note it. */
function echo(): void {
  talk = async function* (input) {
    for await (const { name } of input) {
      seen.names.push(name);
      yield { message: name };
    }
  };
  upload = async (input) => {
    for await (const { name } of input) seen.names.push(name);
    return { message: seen.names.join() };
  };
}

beforeEach(() => {
  Object.assign(seen, { started: 0, ended: 0, reasons: [], names: [] });
  lastUntilAborted();
});

/** Sends one name, and then nothing until the signal aborts. */
async function* idleAfterOne(signal?: AbortSignal): Names {
  yield { name: "Ann" };
  await (signal ? once(signal, "abort").catch(() => {}) : never);
}

/** Opens one stream, reads to its end, and resolves with the error that ended it. */
async function endOf(client: StreamClient, kind: Kind, options?: CallOptions): Promise<ConnectError> {
  try {
    if (kind === "upload") await client.upload(idleAfterOne(), options);
    else {
      const answers =
        kind === "talk" ? client.talk(idleAfterOne(), options) : client.download({ name: "Ann" }, options);
      for await (const { message } of answers) assert.equal(message, "open");
    }
  } catch (thrown) {
    return ConnectError.from(thrown);
  }
  return assert.fail(`${kind} ended without an error`);
}

/** What can be open at once: HTTP/1.1 has no streams in both directions. */
const streams = allWays.flatMap((way) =>
  (["download", "upload", "talk"] as const)
    .filter((kind) => way.http === "2" || kind === "download")
    .map((kind) => ({ way, kind })),
);
const nameOf = ({ way, kind }: { way: Way; kind: Kind }) => `${kind} ${wayName(way)}`;

function assertEnd(error: ConnectError, code: Code, reason: Reason, message: string, what: string): void {
  assert.deepEqual([Code[error.code], reasonOf(error), error.rawMessage], [Code[code], reason, message], what);
}

function start(options: Partial<EdgeOptions> = {}): Promise<Edge> {
  return startEdge({ implementations, ...options });
}

/** A client of the methods for people, under the names of the open ones. */
function mine(opened: Record<string, (...args: never[]) => unknown>): StreamClient {
  return { download: opened.myDownload, upload: opened.myUpload, talk: opened.myTalk } as unknown as StreamClient;
}

describe("a stream ends", () => {
  let edge: Edge;
  before(async () => {
    edge = await start();
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
      download = async function* () {
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
    await using edge = await start({ limits: { streamMs: 300 } });
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
    await using edge = await start();
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
      await using edge = await start({ stopping: stopping.signal });
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
    await using edge = await start({ clock });
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
    await using edge = await start();
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

describe("each message of a stream", () => {
  let edge: Edge;
  before(async () => {
    edge = await start();
  });
  after(() => edge[Symbol.asyncDispose]());
  beforeEach(echo);

  const wrong: [what: string, name: string][] = [
    ["breaks a rule of the contract", ""],
    ["breaks another", "x".repeat(101)],
    ["has text that cannot be stored", "An\0n"],
  ];
  for (const [what, name] of wrong) {
    test(`is refused as INVALID_REQUEST when it ${what}; the handler has seen those before it only`, async () => {
      async function* names(): Names {
        yield { name: "Ann" };
        yield { name };
        yield { name: "Zoë" };
      }
      for (const way of allWays) {
        for (const kind of way.http === "2" ? (["upload", "talk"] as const) : (["upload"] as const)) {
          seen.names.length = 0;
          using opened = openClient<StreamClient>(service, way, edge.url);
          const call = async () => {
            if (kind === "upload") await opened.client.upload(names());
            else for await (const { message } of opened.client.talk(names())) assert.equal(message, "Ann");
          };
          await assert.rejects(call(), (thrown) => {
            const error = ConnectError.from(thrown);
            assert.deepEqual([error.code, reasonOf(error)], [Code.InvalidArgument, "INVALID_REQUEST"], wayName(way));
            if (name.length !== 4) assert.equal(error.findDetails(ViolationsSchema).length, 1);
            return true;
          });
          assert.deepEqual(seen.names, ["Ann"], `${kind} ${wayName(way)}`);
        }
      }
    });
  }

  test("is refused when it is the one of a stream of answers", async () => {
    for (const way of allWays) {
      using opened = openClient<StreamClient>(service, way, edge.url);
      await assert.rejects(opened.client.download({ name: "" })[Symbol.asyncIterator]().next(), (error) => {
        assert.equal(reasonOf(error), "INVALID_REQUEST");
        return true;
      });
    }
    assert.equal(seen.started, 0);
  });

  const malformed: Record<string, Buffer> = {
    "bytes that are no message": frameMessage(Buffer.from([0x0a, 0xff, 1])),
    "text that is no UTF-8": frameMessage(Buffer.from([0x0a, 1, 0xff])),
    "a frame that breaks off": ann.subarray(0, 7),
    "half a frame header": ann.subarray(0, 3),
  };
  for (const [what, bytes] of Object.entries(malformed)) {
    test(`is refused as MALFORMED_MESSAGE when it is ${what}, and that is no fault of ours`, async () => {
      for (const method of ["Upload", "Talk"]) {
        for (const type of ["application/grpc", "application/grpc-web", "application/connect+proto"]) {
          edge.logLines.length = 0;
          const path = `/${service.typeName}/${method}`;
          const headers: HeaderLine[] = [["content-type", type]];
          await sendHttp("2", edge.url, { httpMethod: "POST", path, headers, body: Buffer.concat([ann, bytes]) });
          const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
          assert.deepEqual(
            [line.level, line.code, line.reason],
            ["info", "InvalidArgument", "MALFORMED_MESSAGE"],
            `${method} ${type}`,
          );
        }
      }
    });
  }
});

describe("a handler that throws in the middle of a stream", () => {
  for (const one of streams) {
    test(`is "internal error" to the client, and one fault in the log (${nameOf(one)})`, async () => {
      await using edge = await start();
      download = async function* () {
        yield { message: "open" };
        throw new Error(`password=${SECRET} at pg`);
      };
      upload = async (input) => {
        for await (const { name } of input) throw new Error(`password=${SECRET} of ${name}`);
        return { message: "" };
      };
      talk = () => download({} as SayHelloRequest, {} as HandlerContext);
      using opened = openClient<StreamClient>(service, one.way, edge.url);
      const error = await endOf(opened.client, one.kind);
      assertEnd(error, Code.Internal, "INTERNAL", "internal error", nameOf(one));
      await until("the log line", () => edge.logLines.length > 0);
      const faults = edge.logLines.filter(({ level }) => level === "error");
      assert.deepEqual([faults.length, faults[0]!.code, faults[0]!.reason], [1, "Internal", "INTERNAL"]);
      assert.match(JSON.stringify(faults), /password=\[redacted\]/);
      assert.ok(!JSON.stringify([edge.logLines, error.message, error.details]).includes(SECRET));
    });
  }
});

test("R-NET-10 a thousand streams that come and go leave no listener, no timer and no warning", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on("warning", onWarning);
  const stopping = new AbortController();
  await using edge = await start({ stopping: stopping.signal });
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
