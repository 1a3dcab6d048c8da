/**
 * The steps of every call, in their order, with the reason for each place. The first two are in handler.ts, around
 * Connect; the gate runs when the headers are known and before the body is read; the rest runs when the message is decoded.
 *
 *  1. request id and log   outermost, so that a refused call is seen too
 *  2. deadline             before Connect reads its header
 *  3. started              a service that waits for its database or keys says so, instead of failing in odd ways
 *  4. authentication       before the body: nobody unknown makes us read, inflate or parse it
 *  5. access rule          still before the body
 *  6. readable query       of a GET, which Connect would answer as a fault of ours; only for callers who are known
 *  7. body, digest         compared on the raw bytes, before they are parsed (body.ts)
 *  8. errors               around everything that follows, so that whatever is thrown becomes public in one place
 *  9. spend the token      before anything happens because of the call; after the digest, so that a forged body spends nothing
 * 10. text                 what cannot be stored as it was sent, whatever the contract's rules say of the field
 * 11. validation           the contract's rules, then the handler
 */
import type { DescMethod } from "@bufbuild/protobuf";
import type { HandlerContext, Interceptor, UnaryRequest } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import { createValidateInterceptor } from "@connectrpc/validate";
import { Code, fail, reasonOf } from "../errors.ts";
import type { AccessRule } from "./access.ts";
import { type Authentication, authenticate, unauthenticated } from "./authenticate.ts";
import { type Call, callOf } from "./call.ts";
import { isFault, namePublic, nameUnsent, publicError } from "./errors.ts";
import { refuseUnstorableText } from "./text.ts";

/** What the steps need of the service that a method belongs to. */
export interface StepsOf {
  authentication: Authentication;
  /** False until the service has seen its database's schema and the signing keys. */
  isStarted(): boolean;
  /** Remembers a service token's id until it expires; false when it was spent before. */
  spendToken(tokenId: string, expiresAt: number): Promise<boolean>;
}

/** Either alphabet, padded or not; never one character alone in the last group of four. */
const BASE64 = /^(?:[\w+/-]{4})*(?:[\w+/-]{2}(?:==)?|[\w+/-]{3}=?)?$/;

/** Steps 3 to 6: runs when the headers are known, before the body is read. */
export function createGate(service: StepsOf, ruleOf: (method: DescMethod) => AccessRule) {
  return async (context: HandlerContext): Promise<void> => {
    const call = beginCall(context);
    const rule = ruleOf(context.method);
    if (!service.isStarted()) throw starting();
    await authenticate(service.authentication, rule, call, context);
    refuseUnreadableQuery(context);
  };
}

/** Steps 3 to 6 of what is open to everybody (health, reflection): there is nothing to decide. */
export async function openGate(context: HandlerContext): Promise<void> {
  beginCall(context);
}

/** Notes what reading the body and writing the log will need. */
function beginCall(context: HandlerContext): Call {
  const call = callOf(context.values);
  call.protocol = context.protocolName;
  call.signal = context.signal;
  // Connect aborts this signal with the very error that it is about to send, whoever raised it.
  context.signal.addEventListener("abort", () => noteOutcome(call, context.signal.reason), { once: true });
  return call;
}

/** Connect answers a GET whose message is no base64 as an internal error. */
function refuseUnreadableQuery({ requestMethod, url }: HandlerContext): void {
  if (requestMethod !== "GET") return;
  const query = new URL(url).searchParams;
  if (query.get("base64") === "1" && !BASE64.test(query.get("message") ?? "")) {
    throw fail(Code.InvalidArgument, "MALFORMED_MESSAGE", "the message cannot be read");
  }
}

/** Steps 8 to 11, outermost first. */
export function createInterceptors(service: StepsOf): Interceptor[] {
  return [errorsStep, spendStep(service), textStep, createValidateInterceptor()];
}

function starting(): ConnectError {
  return fail(Code.Unavailable, "UNAVAILABLE", "the service is starting", { retryAfterMs: 1_000 });
}

function noteOutcome(call: Call, reason: unknown): void {
  if (!(reason instanceof ConnectError)) return;
  const error = call.answered ? nameUnsent(reason) : namePublic(reason);
  call.outcome.code = error.code;
  call.outcome.reason = reasonOf(error);
  if (isFault(error.code)) call.outcome.fault = error.cause ?? error;
}

const errorsStep: Interceptor = (next) => async (request) => {
  try {
    const answer = await Promise.race([next(request), whenAborted(request.signal)]);
    callOf(request.contextValues).answered = true;
    return answer;
  } catch (thrown) {
    throw publicError(thrown);
  }
};

/** Rejects when the call ends early, so that a handler which does not listen to its signal cannot hold the answer. */
function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function spendStep(service: StepsOf): Interceptor {
  return (next) => async (request) => {
    const call = callOf(request.contextValues);
    if (call.toSpend && !(await service.spendToken(call.toSpend.tokenId, call.toSpend.expiresAt))) {
      throw unauthenticated(call, "replay");
    }
    return next(request);
  };
}

const textStep: Interceptor = (next) => (request) => {
  if (!request.stream) refuseUnstorableText((request as UnaryRequest).method.input, request.message);
  return next(request);
};
