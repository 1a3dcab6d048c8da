/**
 * From a request of node:http or node:http2 to a method and back, through Connect's universal handlers. Around them this file
 * opens and closes the call, grants the deadline, ends streams that must end, and sees to it that an answer given without
 * reading the body does not leave the body to be read. The order of all steps is in steps.ts.
 */
import type { ServerResponse } from "node:http";
import { type ConnectError, createContextValues } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { Code, fail } from "../errors.ts";
import type { NodeRequest, NodeResponse, Peer, RequestHandler, TakeStream } from "../listener/listener.ts";
import { type Accounting, closeCall, noteFailure, openCall } from "./accounting.ts";
import { chunksOf, guardedBody } from "./body.ts";
import { type Call, callKey } from "./call.ts";
import { applyDeadline, isGrpcContentType } from "./deadline.ts";
import { answerAtOnce, closeAfterAnswer, onceClosed } from "./early-answer.ts";
import { unimplemented } from "./errors.ts";
import { createFastPath } from "./fast-path.ts";
import { overloaded, type RateLimit } from "./overload.ts";
import { isFull, type Route, type Routes } from "./routes.ts";
import { OpenStreams } from "./streams.ts";

export interface RequestHandlerOptions extends Accounting {
  routes: Routes;
  plain: Map<string, RequestHandler>;
  /** Answers whether an unknown path may be told to be unknown; where false, it is answered as unauthenticated. */
  mayLearnPaths(request: NodeRequest): boolean;
  rateLimit: RateLimit;
  /** Whether a full listener refuses whoever calls, known or not: the public one, whose paths are no secret. */
  refusesAtOnce: boolean;
  /** Aborts when the process begins to stop: streams end with its reason. */
  stopping: AbortSignal;
  /** Whether plain unary calls over HTTP/2 take the short way. */
  fastPath: boolean;
}

/** What a listener calls: `takeStream` for an HTTP/2 stream, which it may leave alone, `answer` for every other request. */
export interface RequestHandlers {
  answer: RequestHandler;
  takeStream: TakeStream | undefined;
}

/** What Connect answers to a method, content type or HTTP version that a method does not take; nothing else ran. */
const HTTP_REFUSALS = new Set([405, 415, 505]);

/** For a client that has not ended its side of a stream when it is answered. */
const STREAM_GRACE_MS = 1_000;

/** Makes the functions that a listener calls. */
export function createRequestHandlers(options: RequestHandlerOptions): RequestHandlers {
  const { routes, plain, log, rateLimit } = options;
  const streams = new OpenStreams(options.stopping, options.clock);
  const answer: RequestHandler = (request, response, peer) => {
    const path = (request.url ?? "").split("?", 1)[0]!;
    const plainHandler = plain.get(path);
    if (plainHandler) return plainHandler(request, response, peer);
    const route = routes.get(path);
    const call = beginCall(request, response, peer, route, options);
    const refusal =
      full(route, options) ?? rateLimit(peer.address) ?? withoutHost(request) ?? unknownPath(route, request, options);
    if (refusal) return refuse(refusal, call, request, response);
    answerCall(route!, call, request, response, streams).catch((thrown: unknown) => {
      // The client went away, or the answer broke off: there is nobody left to tell.
      log.debug({ requestId: call.requestId, error: thrown }, "the answer was not delivered");
      response.destroy();
    });
  };
  return { answer, takeStream: options.fastPath ? createFastPath(options) : undefined };
}

function beginCall(
  request: NodeRequest,
  response: NodeResponse,
  peer: Peer,
  route: Route | undefined,
  accounting: Accounting,
): Call {
  const { method: httpMethod = "", url: target = "", headers, rawHeaders } = request;
  const call = openCall({ httpMethod, target, headers, rawHeaders, peer, method: route?.method }, accounting);
  response.setHeader("x-request-id", call.requestId);
  onceClosed(response, () => closeCall(call, response.writableEnded, accounting));
  return call;
}

async function answerCall(
  route: Route,
  call: Call,
  request: NodeRequest,
  response: NodeResponse,
  streams: OpenStreams,
): Promise<void> {
  const { limits, method, handler } = route;
  const isUnary = method.methodKind === "unary";
  applyDeadline(request.headers, isUnary ? limits : { defaultMs: limits.streamMs, maximumMs: limits.streamMs });
  const values = createContextValues().set(callKey, call);
  const universal = universalRequestFromNodeRequest(request, response as ServerResponse, undefined, values);
  const body = chunksOf(universal.body as AsyncIterable<Uint8Array>);
  if (isUnary) {
    universal.body = guardedBody(body, call, request.headers["content-encoding"], limits.messageBytes);
  } else {
    universal.body = body;
    universal.signal = streams.follow(universal.signal, call, response);
  }
  const answer = await handler(universal);
  const graceMs = isUnary ? 0 : STREAM_GRACE_MS;
  const wasRefused = HTTP_REFUSALS.has(answer.status);
  if (wasRefused) noteFailure(call, unimplemented());
  if (wasRefused || hasFailedEarly(call, request)) {
    return answerAtOnce(request, response, { ...answer, body: await readAll(answer.body) }, graceMs);
  }
  closeAfterAnswer(request, response, graceMs);
  return universalResponseToNodeResponse(answer, response as ServerResponse);
}

/** Whether the answer is nothing but an error, to a request of known length that has not arrived as a whole. */
function hasFailedEarly({ outcome }: Call, { headers, complete }: NodeRequest): boolean {
  return outcome.code !== undefined && !complete && headers["content-length"] !== undefined;
}

async function readAll(body: UniversalServerResponse["body"]): Promise<Buffer | undefined> {
  if (!body) return undefined;
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A request must name the host that it is for, in a form that can be part of a URL. */
function withoutHost({ headers }: NodeRequest): ConnectError | undefined {
  const host = headers[":authority"] ?? headers.host;
  if (host !== undefined && URL.canParse(`http://${host}`)) return undefined;
  return fail(Code.InvalidArgument, "MALFORMED_MESSAGE", "the request does not name its host");
}

/** Unimplemented; and the refusal of every unknown caller where paths are not to be learnt. */
function unknownPath(
  route: Route | undefined,
  request: NodeRequest,
  { mayLearnPaths }: RequestHandlerOptions,
): ConnectError | undefined {
  if (route) return undefined;
  return mayLearnPaths(request) ? unimplemented() : fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
}

function full(route: Route | undefined, { refusesAtOnce }: RequestHandlerOptions): ConnectError | undefined {
  return refusesAtOnce && route && isFull(route) ? overloaded() : undefined;
}

/** As Connect has them, but for a path that is not there. */
function statusOf({ code }: ConnectError): number {
  return code === Code.Unimplemented ? 404 : codeToHttpStatus(code);
}

/** Answers without a method, in the protocol of the request; nothing of its body is read. */
function refuse(error: ConnectError, call: Call, request: NodeRequest, response: NodeResponse): void {
  noteFailure(call, error);
  const contentType = request.headers["content-type"] ?? "";
  if (isGrpcContentType(contentType)) {
    const status = setTrailerStatus(new Headers(), error);
    // gRPC-Web has its status in the body, or, without one, in the headers.
    const isWeb = contentType.toLowerCase().startsWith("application/grpc-web");
    const header = new Headers({ ...(isWeb && Object.fromEntries(status)), "content-type": contentType });
    answerAtOnce(request, response, { status: 200, header, trailer: isWeb ? undefined : status });
  } else {
    const header = new Headers({ "content-type": "application/json" });
    const body = errorToJsonBytes(error, undefined);
    answerAtOnce(request, response, { status: statusOf(error), header, body });
  }
}
