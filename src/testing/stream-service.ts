/** Streams of every kind with handlers that a test chooses, clients that leave one open, and what became of both. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { CallOptions, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import {
  type SayHelloRequest,
  SayHelloRequestSchema,
  type SayHelloResponse,
  SayHelloResponseSchema,
} from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, type Reason, reasonOf } from "../errors.ts";
import { allWays, type Way, wayName } from "./clients.ts";
import { type TestMethod, testService } from "./contract.ts";
import { type Edge, type EdgeOptions, startEdge } from "./edge.ts";
import { frameMessage } from "./wire.ts";

const types = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const user: Pick<TestMethod, "access"> = { access: { who: { case: "user", value: {} } } };
/** Streams of every kind, for everybody and for people only. */
export const service = testService("StreamService", {
  Download: { ...types, ...open, stream: "server" },
  Upload: { ...types, ...open, stream: "client" },
  Talk: { ...types, ...open, stream: "both" },
  MyDownload: { ...types, ...user, stream: "server" },
  MyUpload: { ...types, ...user, stream: "client" },
  MyTalk: { ...types, ...user, stream: "both" },
});

export type Names = AsyncIterable<{ name: string }>;
type Answers = AsyncIterable<SayHelloResponse>;
export interface StreamClient {
  download(input: { name: string }, options?: CallOptions): Answers;
  upload(input: Names, options?: CallOptions): Promise<SayHelloResponse>;
  talk(input: Names, options?: CallOptions): Answers;
}
export type Kind = keyof StreamClient;

/** What the methods do; each test chooses. */
export const handlers: {
  download(input: SayHelloRequest, context: HandlerContext): AsyncIterable<{ message: string }>;
  upload(input: AsyncIterable<SayHelloRequest>, context: HandlerContext): Promise<{ message: string }>;
  talk(input: AsyncIterable<SayHelloRequest>, context: HandlerContext): AsyncIterable<{ message: string }>;
} = { download: refuse, upload: refuse, talk: refuse };

function refuse(): never {
  throw new Error("the test has not chosen what the method does");
}

const callDownload: typeof handlers.download = (input, context) => handlers.download(input, context);
const callUpload: typeof handlers.upload = (input, context) => handlers.upload(input, context);
const callTalk: typeof handlers.talk = (input, context) => handlers.talk(input, context);
const implementation = {
  ...{ download: callDownload, upload: callUpload, talk: callTalk },
  ...{ myDownload: callDownload, myUpload: callUpload, myTalk: callTalk },
} as unknown as ServiceImpl<typeof service>;
const implementations = [{ desc: service, implementation }];

/** What became of the handlers of a test. */
export const seen = { started: 0, ended: 0, reasons: [] as unknown[], names: [] as string[] };
const never = new Promise<never>(() => {});
/** A frame with the name "Ann". */
export const ann = frameMessage(Buffer.from([0x0a, 3, ...Buffer.from("Ann")]));

/** Handlers that last until their signal aborts. */
function lastUntilAborted(): void {
  const follow = async (signal: AbortSignal) => {
    if (!signal.aborted) await once(signal, "abort");
    seen.reasons.push(signal.reason);
  };
  handlers.download = async function* (_, { signal }) {
    seen.started++;
    try {
      yield { message: "open" };
      await follow(signal);
    } finally {
      seen.ended++;
    }
  };
  handlers.upload = async (_, { signal }) => {
    seen.started++;
    await follow(signal);
    seen.ended++;
    return { message: "too late" };
  };
  handlers.talk = (_, context) => handlers.download({} as SayHelloRequest, context);
}

/** Handlers that hear nothing. */
export function lastForEver(): void {
  handlers.download = async function* () {
    seen.started++;
    yield { message: "open" };
    await never;
  };
  handlers.upload = async () => {
    seen.started++;
    return await never;
  };
  handlers.talk = () => handlers.download({} as SayHelloRequest, {} as HandlerContext);
}

/** Handlers that answer every name, and note it. */
export function echoNames(): void {
  handlers.talk = async function* (input) {
    for await (const { name } of input) {
      seen.names.push(name);
      yield { message: name };
    }
  };
  handlers.upload = async (input) => {
    for await (const { name } of input) seen.names.push(name);
    return { message: seen.names.join() };
  };
}

/** Before each test. */
export function resetStreams(): void {
  Object.assign(seen, { started: 0, ended: 0, reasons: [], names: [] });
  lastUntilAborted();
}

/** Sends one name, and then nothing for ever. */
async function* idleAfterOne(): Names {
  yield { name: "Ann" };
  await never;
}

/** Opens one stream, reads to its end, and resolves with the error that ended it. */
export async function endOf(client: StreamClient, kind: Kind, options?: CallOptions): Promise<ConnectError> {
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
export const streams = allWays.flatMap((way) =>
  (["download", "upload", "talk"] as const)
    .filter((kind) => way.http === "2" || kind === "download")
    .map((kind) => ({ way, kind })),
);
export const nameOf = ({ way, kind }: { way: Way; kind: Kind }) => `${kind} ${wayName(way)}`;

/** Compares all that a client is told of an error. */
export function assertEnd(error: ConnectError, code: Code, reason: Reason, message: string, what: string): void {
  assert.deepEqual([Code[error.code], reasonOf(error), error.rawMessage], [Code[code], reason, message], what);
}

/** An edge with these streams. */
export function startStreams(options: Partial<EdgeOptions> = {}): Promise<Edge> {
  return startEdge({ implementations, ...options });
}
