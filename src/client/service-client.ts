/**
 * How one service calls another: Connect clients over gRPC and HTTP/2 that sign every call with a service token. A peer
 * that does not answer is UNAVAILABLE / DEPENDENCY_UNAVAILABLE; errors that the peer answered come through with their code
 * and reason.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type DescService, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { Clock } from "../clock.ts";
import { dependencyUnavailable } from "../errors.ts";
import { messageDigest, SERVICE_TOKEN_HEADER, type ServiceKey, signServiceToken } from "../token/service-token.ts";
import { LiveConnection } from "./live-connection.ts";
import { type BreakerState, type MakeResilientOptions, makeResilient } from "./resilience.ts";
import { traceCalls } from "./trace-calls.ts";

const DEFAULT_TIMEOUT_MS = 5_000;
const SAME_DEADLINE_MS = 20;
/** For each message of an answer: as much as an internal listener takes. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export interface ServiceClientOptions {
  /** The callee's internal listener, such as "http://127.0.0.1:50051"; with https, nothing ever goes in the clear. */
  baseUrl: string;
  /** The authorities (PEM) that may certify the callee; the well-known ones when not given. */
  ca?: string;
  /** The key of this caller and callee. */
  key: ServiceKey;
  clock: Clock;
  /** Run for each try of a call before it is signed. */
  interceptors?: Interceptor[];
  /** Breaker, retries and deadlines (resilience.ts); without it a call is made once and has five seconds. */
  resilience?: Omit<MakeResilientOptions, "clock">;
}

/** A connection to one service; makes any number of clients. Disposing closes it. */
export interface ServiceConnection extends Disposable {
  client<Desc extends DescService>(desc: Desc): Client<Desc>;
  /** Undefined without `resilience`. */
  readonly breaker: BreakerState | undefined;
}

export function connectService(options: ServiceClientOptions): ServiceConnection {
  const { baseUrl, ca, key, clock, interceptors = [], resilience } = options;
  // Said, so that no variable of the environment can turn it off.
  const tls = { ca, minVersion: "TLSv1.2", rejectUnauthorized: true } as const;
  const sessionManager = new LiveConnection(baseUrl, tls);
  const single = nameFaults(
    createGrpcTransport({
      baseUrl,
      sessionManager,
      defaultTimeoutMs: DEFAULT_TIMEOUT_MS,
      readMaxBytes: MAX_ANSWER_BYTES,
      interceptors: [...interceptors, signCalls(key, clock)],
    }),
  );
  const resilient = resilience && makeResilient(single, { ...resilience, clock });
  return {
    client: (desc) => createClient(desc, traceCalls(resilient ?? single)),
    get breaker() {
      return resilient?.breaker;
    },
    [Symbol.dispose]: () => sessionManager[Symbol.dispose](),
  };
}

function signCalls(key: ServiceKey, clock: Clock): Interceptor {
  return (next) => (request) => {
    const { method } = request;
    const procedure = `/${method.parent.typeName}/${method.name}`;
    // Encoded here to know the digest, and once more by the transport: the same message gives the same bytes.
    const digest = request.stream ? undefined : messageDigest(toBinary(method.input, request.message));
    request.header.set(SERVICE_TOKEN_HEADER, signServiceToken(key, procedure, digest, clock));
    return next(request);
  };
}

/**
 * Errors of the connection get a reason; those that the peer answered keep theirs, and so does the caller's own leaving.
 * Around the transport and not an interceptor, because Connect decides outside of these that a deadline has passed.
 */
function nameFaults(transport: Transport): Transport {
  return {
    unary: (method, signal, ...rest) => answerOf(() => transport.unary(method, signal, ...rest), signal),
    async stream(method, signal, ...rest) {
      const answer = await answerOf(() => transport.stream(method, signal, ...rest), signal, false);
      return { ...answer, message: messagesOf(answer.message, signal) };
    },
  };
}

/** The same messages; a connection that breaks between them is named, too. A deadline that passes here is the caller's own. */
async function* messagesOf<Message>(messages: AsyncIterable<Message>, signal: AbortSignal | undefined) {
  try {
    yield* messages;
  } catch (cause) {
    throw ConnectError.from(cause).code === Code.DeadlineExceeded ? cause : await faultOf(cause, signal);
  }
}

/** A peer that ends an idle connection just now refuses what is on its way: HTTP/2 promises that it was not processed. */
async function answerOf<Answer>(
  call: () => Promise<Answer>,
  signal: AbortSignal | undefined,
  mayTryAgain = true,
): Promise<Answer> {
  try {
    return await call();
  } catch (cause) {
    const fault = await faultOf(cause, signal);
    if (fault !== cause && mayTryAgain && wasRefusedUnread(cause)) return answerOf(call, signal, false);
    throw fault;
  }
}

/** What a call ends with that ended with `cause`: that itself, unless the connection or the peer's silence is the reason. */
async function faultOf(cause: unknown, signal: AbortSignal | undefined): Promise<unknown> {
  const error = ConnectError.from(cause);
  if (error.code === Code.DeadlineExceeded && signal) await abortedSoon(signal);
  return signal?.aborted || !isUnanswered(error) ? cause : dependencyUnavailable(cause);
}

/**
 * A deadline that was handed on passes at the callee, or in our transport, up to some milliseconds before the caller's own
 * timer says so. A moment later it is clear whose it was, and the caller's call ends as that and not as a silent peer.
 */
async function abortedSoon(signal: AbortSignal): Promise<void> {
  await delay(SAME_DEADLINE_MS, undefined, { signal }).catch(() => {});
}

function wasRefusedUnread(thrown: unknown): boolean {
  const { cause } = ConnectError.from(thrown);
  return cause instanceof Error && cause.message.includes("NGHTTP2_REFUSED_STREAM");
}

/**
 * A connection that broke shows as any of these codes; or as an error of the system, of TLS or of node:http2 that Connect
 * takes for INTERNAL. Codes of the system and of certificates are plain words; those of our own mistakes begin with ERR_.
 */
function isUnanswered({ isWireError, code, cause }: ConnectError): boolean {
  if (isWireError) return false;
  if ([Code.Unavailable, Code.DeadlineExceeded, Code.Canceled, Code.Aborted].includes(code)) return true;
  if (!(cause instanceof Error && "code" in cause && typeof cause.code === "string")) return false;
  return /^ERR_(?:HTTP2|TLS|SSL)_/.test(cause.code) || !cause.code.startsWith("ERR_");
}
