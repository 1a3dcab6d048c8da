/**
 * From a request of node:http or node:http2 to a method and back. Connect's universal handlers speak the three protocols;
 * around them this file opens and logs the call, grants the deadline, and sees to it that an answer given without reading
 * the body does not leave the body to be read. The order of all steps is in steps.ts.
 */
import type { ServerResponse } from "node:http";
import { type ConnectRouter, createConnectRouter, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { errorToJson } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { v7 as uuidv7 } from "uuid";
import type { Clock } from "../clock.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { accessRule } from "./access.ts";
import { guardedBody } from "./body.ts";
import { type Call, callerName, callKey } from "./call.ts";
import { applyDeadline, type DeadlineLimits, isGrpcContentType } from "./deadline.ts";
import { isFault } from "./errors.ts";
import { answerJson } from "./json.ts";
import type { NodeRequest, NodeResponse, RequestHandler } from "./listener.ts";
import { createGate, createInterceptors, openGate, type StepsOf } from "./steps.ts";

export interface RpcLimits extends DeadlineLimits {
  /** Largest message, in bytes, before and after decompression. */
  messageBytes: number;
}

export const PUBLIC_LIMITS: RpcLimits = { messageBytes: 64 * 1024, defaultMs: 10_000, maximumMs: 60_000 };
export const INTERNAL_LIMITS: RpcLimits = { messageBytes: 4 * 1024 * 1024, defaultMs: 10_000, maximumMs: 60_000 };

/** Refuses bytes that are no UTF-8, which would be replaced and so stored other than they were sent. */
const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true });
/** Connect takes a decoder along with the options that it hands on, but its types do not say so here. */
type JsonOptions = NonNullable<Parameters<typeof createConnectRouter>[0]>["jsonOptions"];

/** One method, by its path, as a listener serves it. */
interface Route {
  handler: UniversalHandler;
  limits: RpcLimits;
}

export type Routes = Map<string, Route>;

/** Longer than any path of ours; the rest of what a stranger sends has no business in the log. */
const MAX_LOGGED_PATH = 256;
/** What Connect answers to a method, content type or HTTP version that a method does not take; nothing else ran. */
const HTTP_REFUSALS = new Set([405, 415, 505]);

/** The routes of one service on one listener: every method behind its steps. Fails if a method has no access rule. */
export function serviceRoutes(service: StepsOf, limits: RpcLimits, register: (router: ConnectRouter) => void): Routes {
  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    jsonOptions: { ignoreUnknownFields: false, textDecoder: STRICT_UTF8 } as JsonOptions,
    readMaxBytes: limits.messageBytes,
    requestGate: createGate(service, (method) => rules.get(method)!),
    interceptors: createInterceptors(service),
  });
  register(router);
  const rules = new Map(router.handlers.map(({ method }) => [method, accessRule(method)]));
  return new Map(router.handlers.map((handler) => [handler.requestPath, { handler, limits }]));
}

/**
 * The routes of third-party services (health, reflection), which are open to everybody and have no steps. Their streams
 * may last, so they end when `stopping` aborts.
 */
export function openRoutes(
  limits: RpcLimits,
  stopping: AbortSignal,
  register: (router: ConnectRouter) => void,
): Routes {
  const router = createConnectRouter({
    readMaxBytes: limits.messageBytes,
    shutdownSignal: stopping,
    requestGate: openGate,
  });
  register(router);
  return new Map(router.handlers.map((handler) => [handler.requestPath, { handler, limits }]));
}

export interface RequestHandlerOptions {
  routes: Routes;
  plain: Map<string, RequestHandler>;
  /** Answers whether an unknown path may be told to be unknown; where false, it is answered as unauthenticated. */
  mayLearnPaths(request: NodeRequest): boolean;
  log: Logger;
  clock: Clock;
}

/** Makes the function that a listener calls for every request. */
export function createRequestHandler(options: RequestHandlerOptions): RequestHandler {
  const { routes, plain } = options;
  return (request, response) => {
    const path = (request.url ?? "").split("?", 1)[0]!;
    const plainHandler = plain.get(path);
    if (plainHandler) return plainHandler(request, response);
    const call = openCall(request, response, options);
    if (!hasHost(request)) return answerWithoutHost(call, request, response);
    const route = routes.get(path);
    if (!route) return answerUnknownPath(options.mayLearnPaths(request), call, request, response);
    answerCall(route, call, request, response).catch((thrown: unknown) => {
      // The client went away, or the answer broke off: there is nobody left to tell.
      options.log.debug({ requestId: call.requestId, error: thrown }, "the answer was not delivered");
      response.destroy();
    });
  };
}

async function answerCall(route: Route, call: Call, request: NodeRequest, response: NodeResponse): Promise<void> {
  const isUnary = route.handler.method.methodKind === "unary";
  if (isUnary) applyDeadline(request.headers, route.limits);
  const values = createContextValues().set(callKey, call);
  const universalRequest = universalRequestFromNodeRequest(request, response as ServerResponse, undefined, values);
  let bodyWanted = false;
  const source = universalRequest.body as AsyncIterable<Uint8Array>;
  async function* body() {
    bodyWanted = true;
    yield* guardedBody(source, call, request.headers["content-encoding"], route.limits.messageBytes);
  }
  const answer = await route.handler({ ...universalRequest, body: isUnary ? body() : source });
  if (HTTP_REFUSALS.has(answer.status)) call.outcome = { code: Code.Unimplemented, reason: "UNIMPLEMENTED" };
  if (isUnary && !(bodyWanted && request.complete)) closeAfterAnswer(request, response);
  await universalResponseToNodeResponse(answer, response as ServerResponse);
}

/**
 * The body was not read, or not to its end, and must not be: the connection (HTTP/1.1) or the stream (HTTP/2) ends with
 * the answer.
 */
function closeAfterAnswer(request: NodeRequest, response: NodeResponse): void {
  if ("stream" in request) {
    const { stream } = request;
    // Said when the whole body of the answer is out; "finish" may wait until the client has ended its side. One turn
    // later the trailers are out, too, and the reset that ends the stream says NO_ERROR.
    stream.once("wantTrailers", () => setImmediate(() => stream.destroy()));
    return;
  }
  if (request.complete) return;
  (response as ServerResponse).setHeader("connection", "close");
  response.once("finish", () => request.socket.destroySoon());
}

function openCall(request: NodeRequest, response: NodeResponse, { log, clock }: RequestHandlerOptions): Call {
  const startedAt = clock.monotonic();
  const call: Call = {
    requestId: uuidv7(),
    target: request.url ?? "",
    rawHeaders: request.rawHeaders,
    caller: { kind: "anonymous" },
    outcome: {},
  };
  response.setHeader("x-request-id", call.requestId);
  response.once("close", () => {
    if (!response.writableEnded) call.outcome = { code: Code.Canceled, reason: "CANCELED", ...call.outcome };
    writeLog(log, call, clock.monotonic() - startedAt);
  });
  return call;
}

function writeLog(log: Logger, call: Call, durationMs: number): void {
  const { code, reason, refusal, fault } = call.outcome;
  const line = {
    requestId: call.requestId,
    procedure: call.target.split("?", 1)[0]!.slice(0, MAX_LOGGED_PATH),
    protocol: call.protocol,
    caller: callerName(call.caller),
    code: code === undefined ? "ok" : Code[code],
    reason,
    refusal,
    durationMs: Math.round(durationMs * 1000) / 1000,
  };
  if (code !== undefined && isFault(code)) log.error({ ...line, error: fault }, "call failed");
  else log.info(line, "call");
}

/** Whether the request names the host that it is for, in a form that can be part of a URL. */
function hasHost({ headers }: NodeRequest): boolean {
  const host = headers[":authority"] ?? headers.host;
  return host !== undefined && URL.canParse(`http://${host}`);
}

function answerWithoutHost(call: Call, request: NodeRequest, response: NodeResponse): void {
  const error = fail(Code.InvalidArgument, "MALFORMED_MESSAGE", "the request does not name its host");
  call.outcome = { code: error.code, reason: reasonOf(error) };
  closeAfterAnswer(request, response);
  answerJson(response, 400, errorToJson(error, undefined));
}

/** 404, or gRPC's UNIMPLEMENTED; and the refusal of every unknown caller where paths are not to be learnt. */
function answerUnknownPath(mayLearn: boolean, call: Call, request: NodeRequest, response: NodeResponse): void {
  const error = mayLearn
    ? fail(Code.Unimplemented, "UNIMPLEMENTED", "this is not implemented")
    : fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  call.outcome.code = error.code;
  call.outcome.reason = reasonOf(error);
  closeAfterAnswer(request, response);
  const contentType = request.headers["content-type"] ?? "";
  if (isGrpcContentType(contentType)) {
    response.setHeader("content-type", contentType);
    for (const [name, value] of setTrailerStatus(new Headers(), error)) response.setHeader(name, value);
    // Headers alone would end the stream, and "wantTrailers" would not be said.
    (response as ServerResponse).writeHead(200);
    response.end();
  } else {
    answerJson(response, mayLearn ? 404 : 401, errorToJson(error, undefined));
  }
}
