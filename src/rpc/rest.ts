/**
 * Plain HTTP in front of a few methods, for clients that had it before: each path maps to one method of the internal listener, whose rule,
 * limits and steps (steps.ts) are its own. Callers are known by the same service token, made for the method; what it signs of a GET, which
 * has no body, the route says. Errors are JSON, under the HTTP status that Connect gives them.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { DescMessage, DescMethodUnary, Message, MessageShape } from "@bufbuild/protobuf";
import { create, fromJsonString } from "@bufbuild/protobuf";
import { createContextValues, createHandlerContext, type HandlerContext } from "@connectrpc/connect";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { Code, fail, reasonOf } from "../errors.ts";
import type { NodeRequest, NodeResponse, RequestHandler } from "../listener/listener.ts";
import { type Accounting, closeCall, noteFailure, openCall } from "./accounting.ts";
import { chunksOf, compareDigest, counted, readAll } from "./body.ts";
import { type Call, callKey } from "./call.ts";
import { answerAtOnce, closeAfterAnswer, onceClosed } from "./early-answer.ts";
import { canceled, malformed, publicError } from "./errors.ts";
import { answerJson } from "./json.ts";
import type { Route, Routes } from "./routes.ts";
import { admit, prepare } from "./steps.ts";
import { untilAborted, whenAborted } from "./until-aborted.ts";

/** One path, made by restRoute(). */
export interface RestRoute<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
  /** Matches the whole path. */
  path: RegExp;
  method: DescMethodUnary<I, O>;
  /**
   * Of a GET: the request that the path, with its groups, and the headers stand for, and the text whose digest the caller has signed. Without
   * it, the route is a POST whose body is the request as JSON.
   */
  read?(path: string, groups: string[], headers: IncomingHttpHeaders): { request: MessageShape<I>; signed: string };
  /** The answer's JSON. */
  answer(message: MessageShape<O>): unknown;
}

export interface RestOptions extends Accounting {
  /** Of the internal listener. */
  routes: Routes;
  rest: RestRoute[];
}

const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Checks a route's types, and forgets them. */
export function restRoute<I extends DescMessage, O extends DescMessage>(route: RestRoute<I, O>): RestRoute {
  return route as unknown as RestRoute;
}

export function createRestHandler(options: RestOptions): RequestHandler {
  return (request, response, peer) => {
    const found = find(options.rest, request);
    const { headers, rawHeaders } = request;
    const method = found?.rest.method;
    // As the service token names it; a path that is not there may be anything, a secret too.
    const target = method ? procedureOf(method) : "";
    const call = openCall({ httpMethod: "POST", target, headers, rawHeaders, peer, method }, options);
    call.protocol = "rest";
    response.setHeader("x-request-id", call.requestId);
    onceClosed(response, () => closeCall(call, response.writableEnded, options));
    const answer = found
      ? run(found, options.routes.get(target)!, call, request, response)
      : Promise.reject(fail(Code.NotFound, "NOT_FOUND", "there is nothing at this path"));
    answer
      .then((body) => {
        closeAfterAnswer(request, response);
        answerJson(response, 200, body);
      })
      .catch((thrown: unknown) => refuse(thrown, call, request, response));
  };
}

interface Found {
  rest: RestRoute;
  groups: string[];
}

function find(rest: RestRoute[], { method, url = "" }: NodeRequest): Found | undefined {
  for (const route of rest) {
    const match = method === (route.read ? "GET" : "POST") && route.path.exec(url);
    if (match) return { rest: route, groups: match.slice(1) };
  }
  return undefined;
}

function procedureOf({ parent, name }: DescMethodUnary): string {
  return `/${parent.typeName}/${name}`;
}

/** The JSON to answer with. */
async function run(found: Found, route: Route, call: Call, request: NodeRequest, response: NodeResponse) {
  const { service, limits, method, implementation } = route;
  const gone = new AbortController();
  onceClosed(response, () => gone.abort(canceled()));
  const context = createHandlerContext({
    ...{ method, service: method.parent, requestMethod: request.method!, protocolName: "rest", url: request.url! },
    requestSignal: gone.signal,
    timeoutMs: limits.defaultMs,
    contextValues: createContextValues().set(callKey, call),
  });
  const ended = whenAborted(context.signal);
  ended.catch(() => {});
  try {
    await Promise.race([admit(service!, route, call), ended]);
    const message = await readRequest(found, call, request, { ...limits, signal: context.signal });
    await prepare(service, call, message);
    const answer = await Promise.race([implementation(message, context as HandlerContext), ended]);
    return found.rest.answer(create(method.output, answer as Message));
  } finally {
    context.abort();
  }
}

async function readRequest(
  { rest, groups }: Found,
  call: Call,
  request: NodeRequest,
  { messageBytes, signal }: { messageBytes: number; signal: AbortSignal },
): Promise<Message> {
  const read = rest.read?.(request.url!, groups, request.headers);
  if (read) {
    compareDigest(call, Buffer.from(read.signed));
    return read.request;
  }
  const body = await readAll(counted(untilAborted(chunksOf(request), signal), call), messageBytes);
  compareDigest(call, body);
  try {
    return fromJsonString(rest.method.input, STRICT_UTF8.decode(body));
  } catch {
    throw malformed();
  }
}

function refuse(thrown: unknown, call: Call, request: NodeRequest, response: NodeResponse): void {
  const error = publicError(thrown);
  noteFailure(call, error);
  const { code, rawMessage: message } = error;
  const body = Buffer.from(JSON.stringify({ code: codeToString(code), message, reason: reasonOf(error) }));
  const header = new Headers({ "content-type": "application/json" });
  answerAtOnce(request, response, { status: codeToHttpStatus(code), header, body });
}
