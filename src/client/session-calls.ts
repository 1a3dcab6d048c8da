/**
 * Calls as a person: each gets the access token of its moment. One that was refused for it gets the next token and is made once
 * more; one whose session could not be checked just then (AUTH_STALE) is made again after the time that the server says. Both
 * refusals come before a server does anything, so that is safe for every method. What answers tell as `consistency_token` goes
 * with the calls that follow.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type StreamResponse, type Transport } from "@connectrpc/connect";
import { fail, reasonOf } from "../errors.ts";
import { CONSISTENCY_HEADER } from "../rights/revisions.ts";
import type { SeenRevisions } from "./consistency.ts";
import { pause, toldDelayMs } from "./pauses.ts";
import type { AccessToken } from "./session-store.ts";

/** Where calls get their tokens. */
export interface TokenSource {
  /** The token to send; undefined if nobody is signed in. */
  current(): Promise<AccessToken | undefined>;
  /** The one after a token that was refused, of the same person in the same organization. */
  next(refused: AccessToken): Promise<AccessToken>;
}

/** For unary calls that say nothing else. Streams may last. */
const DEFAULT_TIMEOUT_MS = 10_000;
/** Of a call whose session could not be checked. */
const TRIES = 3;
/** Beside what the server says, or all whom it told the same would come back together. */
const SPREAD_MS = 250;

/** The same transport for the person whose tokens these are. Calls of nobody go without, as public methods may. */
export function callAs(tokens: TokenSource, seen: SeenRevisions, transport: Transport): Transport {
  const headersOf = (header: HeaderLines, token: AccessToken | undefined) => {
    const headers = new Headers(header);
    if (token) headers.set("authorization", `Bearer ${token.token}`);
    if (seen.token() !== "" && !headers.has(CONSISTENCY_HEADER)) headers.set(CONSISTENCY_HEADER, seen.token());
    return headers;
  };
  const giveUp = (error: unknown) => {
    seen.heed(error);
    throw error;
  };
  return {
    async unary(method, signal, timeoutMs = DEFAULT_TIMEOUT_MS, header, input, contextValues) {
      const answer = await authorized(tokens, { signal, timeoutMs }, (token, leftMs) => {
        return transport.unary(method, signal, leftMs, headersOf(header, token), input, contextValues);
      }).catch(giveUp);
      note(seen, answer.message);
      return answer;
    },
    async stream(method, signal, timeoutMs, header, input, contextValues) {
      const call = (token: AccessToken | undefined, messages: typeof input) => {
        return transport.stream(method, signal, timeoutMs, headersOf(header, token), messages, contextValues);
      };
      const limits = { signal, timeoutMs };
      // What a client has sent in many messages cannot be sent again.
      if (method.methodKind !== "server_streaming") return call(await within(limits, tokens.current()), input);
      const messages = await allOf(input);
      return authorized(tokens, limits, async (token) => begun(await call(token, streamOf(messages)))).catch(giveUp);
    },
  };
}

/** Of one call: when its caller leaves, and for how long it waits. */
interface Limits {
  signal: AbortSignal | undefined;
  /** In milliseconds. */
  timeoutMs: number | undefined;
}

/** Whatever headers can be made of. */
type HeaderLines = ConstructorParameters<typeof Headers>[0];

/** A call with a token and the time that is left for it, and again as the head of this file says. */
async function authorized<Answer>(
  tokens: TokenSource,
  { signal, timeoutMs }: Limits,
  call: (token: AccessToken | undefined, leftMs: number | undefined) => Promise<Answer>,
): Promise<Answer> {
  const endsAt = timeoutMs === undefined || timeoutMs <= 0 ? undefined : performance.now() + timeoutMs;
  const leftMs = () => endsAt && Math.max(1, Math.ceil(endsAt - performance.now()));
  for (let tries = 1; ; tries++) {
    const token = await within({ signal, timeoutMs: leftMs() }, tokens.current());
    try {
      return await call(token, leftMs());
    } catch (error) {
      if (token !== undefined && isRefused(error)) {
        const next = await within({ signal, timeoutMs: leftMs() }, tokens.next(token));
        return await call(next, leftMs());
      }
      const waitMs = (toldDelayMs(error) ?? 0) + Math.random() * SPREAD_MS;
      const isTooLate = endsAt !== undefined && performance.now() + waitMs >= endsAt;
      if (tries === TRIES || !isUnchecked(error) || isTooLate) throw error;
      await pause(waitMs, signal);
    }
  }
}

/** The same, unless the caller leaves or has to stop waiting before. */
async function within<Result>({ signal, timeoutMs }: Limits, result: Promise<Result>): Promise<Result> {
  const deadline = timeoutMs === undefined || timeoutMs <= 0 ? [] : [AbortSignal.timeout(timeoutMs)];
  const limit = AbortSignal.any([...(signal ? [signal] : []), ...deadline]);
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal?.aborted ? ConnectError.from(signal.reason, Code.Canceled) : tooLate());
  if (limit.aborted) stop();
  limit.addEventListener("abort", stop);
  try {
    return await Promise.race([result, stopped]);
  } finally {
    limit.removeEventListener("abort", stop);
  }
}

function tooLate(): ConnectError {
  return fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the access token was not refreshed in time");
}

/**
 * The same answer, once its first message or its end is there: a stream may be refused as late as that. What answers name
 * before that, such as headers, comes with it.
 */
async function begun<Input extends DescMessage, Output extends DescMessage>(
  answer: StreamResponse<Input, Output>,
): Promise<StreamResponse<Input, Output>> {
  const messages = answer.message[Symbol.asyncIterator]();
  let first: Awaited<ReturnType<typeof messages.next>> | undefined = await messages.next();
  const message = {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const result = first ?? (await messages.next());
        first = undefined;
        return result;
      },
      return: async () => (await messages.return?.()) ?? { done: true as const, value: undefined },
    }),
  };
  return { ...answer, message };
}

async function allOf<Item>(messages: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

async function* streamOf<Item>(messages: Item[]): AsyncGenerator<Item> {
  yield* messages;
}

function note(seen: SeenRevisions, answer: Message): void {
  if ("consistencyToken" in answer && typeof answer.consistencyToken === "string") seen.note(answer.consistencyToken);
}

/** Refused for its token, and not for a wrong password or a login that is too long ago, whose code is the same. */
function isRefused(error: unknown): boolean {
  if (ConnectError.from(error).code !== Code.Unauthenticated) return false;
  const reason = reasonOf(error);
  return reason === "UNAUTHENTICATED" || reason === "TOKEN_EXPIRED";
}

/** Nobody could tell the server whether the session lives. */
function isUnchecked(error: unknown): boolean {
  const { code, isWireError } = ConnectError.from(error);
  return isWireError && code === Code.Unavailable && reasonOf(error) === "AUTH_STALE";
}
