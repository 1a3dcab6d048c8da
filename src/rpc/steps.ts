/**
 * The steps of every call, in their order, with the reason for each place. Steps 1 to 4 stand in handler.ts around Connect and
 * once more in fast-path.ts, which goes without Connect: a rule among them belongs into both. The gate (5 to 9) runs when the
 * headers are known and before the body is read; the rest runs when a message is decoded. createStepsInterceptor() is how
 * Connect runs 11 to 15, for unary calls and for streams.
 *
 *  1. request id and log   outermost, so that a refused call is seen too
 *  2. metrics and trace    likewise; a trace is continued before anything can call another service
 *  3. full, rate limit     before anything that costs us more; a full public listener must not spend its time on those whom it
 *                          refuses, and on the fast path not even on step 1 (refuse-at-once.ts)
 *  4. deadline             before Connect reads its header
 *  5. started              a service that waits for its database or keys says so, instead of failing in odd ways
 *  6. authentication       before the body: nobody unknown makes us read, inflate or parse it
 *  7. access rule          still before the body
 *  8. readable query       of a GET, which Connect would answer as a fault of ours; only for callers who are known
 *  9. load                 after the rule, so that only those who may call take places; before the body, which takes memory
 * 10. body, digest         no more than there is memory for; compared on the raw bytes, before they are parsed (body.ts)
 * 11. errors               around everything that follows, so that whatever is thrown becomes public in one place
 * 12. spend the token      before anything happens because of the call; after the digest, so that a forged body spends nothing
 * 13. message              text that cannot be stored, then the contract's rules; each message of a stream (messages.ts)
 * 14. handler
 * 15. answer               encoded once to see that it can be: the encoder's words are for the log
 */
import { type JsonWriteOptions, type Message, toBinary, toJsonString } from "@bufbuild/protobuf";
import type { HandlerContext, Interceptor, StreamRequest, StreamResponse, UnaryRequest } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import { Code, fail } from "../errors.ts";
import { noteFailure } from "./accounting.ts";
import { type Authentication, authenticate, unauthenticated } from "./authenticate.ts";
import { type Call, callOf, queryOf } from "./call.ts";
import { canceled, malformed, namePublic, publicError } from "./errors.ts";
import { checkMessage, checkMessages } from "./messages.ts";
import type { Route } from "./routes.ts";
import { untilAborted, whenAborted } from "./until-aborted.ts";

/** What the steps need of the service that a method belongs to. */
export interface StepsOf {
  authentication: Authentication;
  /** False until the service has seen its database's schema and the signing keys. */
  isStarted(): boolean;
  /** Remembers a service token's id until it expires; false when it was spent before. */
  spendToken(tokenId: string, expiresAt: number): Promise<boolean>;
}

/** What a call must pass before its body is read, and what it takes from then on. */
export type Gate = Pick<Route, "rule" | "load" | "bodyMemory">;

/** Either alphabet, padded or not; never one character alone in the last group of four. */
const BASE64 = /^(?:[\w+/-]{4})*(?:[\w+/-]{2}(?:==)?|[\w+/-]{3}=?)?$/;

/** Steps 5 to 9. */
export async function admit(service: StepsOf, { rule, load, bodyMemory }: Gate, call: Call): Promise<void> {
  if (!service.isStarted()) throw starting();
  await authenticate(service.authentication, rule, call);
  // Whoever has left meanwhile would never give back what is taken from here on.
  if (call.isOver) throw canceled();
  refuseUnreadableQuery(call);
  call.onAdmitted?.(rule, service.authentication);
  call.bodyMemory = bodyMemory;
  if (!load) return;
  load.enter(call.peer.address);
  call.load = load;
}

function starting(): ConnectError {
  return fail(Code.Unavailable, "UNAVAILABLE", "the service is starting", { retryAfterMs: 1_000 });
}

/** Connect answers a GET whose message is no base64 as an internal error. */
function refuseUnreadableQuery({ httpMethod, target }: Call): void {
  if (httpMethod !== "GET") return;
  const query = queryOf(target);
  if (query.get("base64") === "1" && !BASE64.test(query.get("message") ?? "")) {
    throw malformed();
  }
}

/** What Connect ends a call by, with the very error that it is about to send, whoever raised it. Its types do not show it. */
interface Ending {
  abort(reason?: unknown): void;
}

/** Notes what Connect knows of a call: reading the body and accounting for the call need it. */
export function followContext(context: HandlerContext): Call {
  const call = callOf(context.values);
  call.protocol = context.protocolName;
  call.signal = context.signal;
  context.signal.addEventListener("abort", () => noteOutcome(call, context.signal.reason), { once: true });
  // Once the deadline has passed the signal is aborted already, and says nothing of an error that comes after.
  const ending = context as HandlerContext & Ending;
  const { abort } = ending;
  ending.abort = (reason) => {
    noteOutcome(call, reason);
    abort(reason);
  };
  return call;
}

function noteOutcome(call: Call, reason: unknown): void {
  if (reason instanceof ConnectError) noteFailure(call, namePublic(reason));
}

/** Steps 12 and 13 of a unary call: whatever must hold before its handler sees the message. */
export async function prepare(service: StepsOf | undefined, call: Call, message: Message): Promise<void> {
  if (call.toSpend) await spend(service!, call, call.toSpend);
  checkMessage(call.method!.input, message);
}

async function spend(service: StepsOf, call: Call, { tokenId, expiresAt }: NonNullable<Call["toSpend"]>) {
  if (!(await service.spendToken(tokenId, expiresAt))) throw unauthenticated(call, "replay");
}

/**
 * Steps 11 to 13, and 15, as Connect takes them. Without a service (health, reflection) there is no token to spend. `json` is
 * how Connect will write JSON.
 */
export function createStepsInterceptor(service: StepsOf | undefined, json: Partial<JsonWriteOptions>): Interceptor {
  return (next) => async (request) => {
    const call = callOf(request.contextValues);
    const check = (answer: Message) => tryEncoding(answer, request, call, json);
    try {
      if (!request.stream) {
        await prepare(service, call, request.message);
        const answer = await Promise.race([next(request), whenAborted(request.signal)]);
        check(answer.message as Message);
        return answer;
      }
      if (call.toSpend) await spend(service!, call, call.toSpend);
      const checked = { ...request, message: checkMessages(request.method.input, request.message) } as StreamRequest;
      const answer = (await Promise.race([next(checked), whenAborted(request.signal)])) as StreamResponse;
      return { ...answer, message: publicStream(answer.message, request.signal, check) } as StreamResponse;
    } catch (thrown) {
      throw publicError(thrown);
    }
  };
}

/** The answers of a stream, until one of them fails or the call ends. */
async function* publicStream(
  answers: AsyncIterable<Message>,
  signal: AbortSignal,
  check: (answer: Message) => void,
): AsyncIterable<Message> {
  try {
    for await (const answer of untilAborted(answers, signal)) {
      check(answer);
      yield answer;
    }
  } catch (thrown) {
    throw publicError(thrown);
  }
}

/** Throws what the encoder says. Connect encodes after all steps, and what it is told there it tells the client. */
function tryEncoding(
  answer: Message,
  request: UnaryRequest | StreamRequest,
  call: Call,
  json: Partial<JsonWriteOptions>,
) {
  const { method, header } = request;
  const format = call.httpMethod === "GET" ? queryOf(call.target).get("encoding") : header.get("content-type");
  if (format?.toLowerCase().includes("json")) toJsonString(method.output, answer, json);
  else toBinary(method.output, answer);
}
