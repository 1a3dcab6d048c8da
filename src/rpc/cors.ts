/**
 * Which web pages may call the public listener from a browser. A page of a configured origin gets exactly that origin back;
 * any other gets nothing, so its browser lets it read no answer, and sends no call that changes anything: all of those need
 * a preflight. There is no wildcard and there are no credentials: tokens travel in a header that a page must have, never in
 * a cookie that a browser adds by itself.
 */
import { cors as connectCors } from "@connectrpc/connect";
import type { NodeRequest, NodeResponse, RequestHandler } from "../listener/listener.ts";

/** How long a browser may remember the answer to a preflight: the longest that Chromium keeps one. */
const MAX_AGE_SECONDS = 7_200;

const ALLOWED_METHODS = connectCors.allowedMethods.join(", ");
const ALLOWED_HEADERS = [...connectCors.allowedHeaders, "Authorization", "Consistency-Token", "Traceparent"].join(", ");
const EXPOSED_HEADERS = [...connectCors.exposedHeaders, "X-Request-Id"].join(", ");

/**
 * Puts CORS around everything that a listener answers, its refusals included: a page must be able to read a 401, a 404 or
 * gRPC-Web's status in the headers as well as an answer. Without origins the handler is left as it is.
 *
 * Preflights of every path are answered here, and are no calls: they reach no log line and no limit. Refusing one would
 * cost as much, and a page cannot read why it was refused. What takes the short way (fast-path.ts) does not come here: it
 * is no page's call, and a POST, which no cache keeps.
 */
export function withCors(allowedOrigins: readonly string[], handler: RequestHandler): RequestHandler {
  if (allowedOrigins.length === 0) return handler;
  const origins = new Set(allowedOrigins);
  return (request, response, peer) => {
    const { origin } = request.headers;
    const isAllowed = origin !== undefined && origins.has(origin);
    // Also where the origin is not allowed or was not sent, or a cache would give that answer to a page that is allowed.
    response.setHeader("vary", "Origin");
    if (isAllowed) response.setHeader("access-control-allow-origin", origin);
    if (isPreflight(request)) return answerPreflight(isAllowed, response);
    if (isAllowed) response.setHeader("access-control-expose-headers", EXPOSED_HEADERS);
    handler(request, response, peer);
  };
}

/** An OPTIONS request with a body is none: it goes the way of all requests, which ends connections that are left unread. */
function isPreflight(request: NodeRequest): boolean {
  const { headers } = request;
  const asks = request.method === "OPTIONS" && headers.origin && headers["access-control-request-method"];
  return Boolean(asks) && !hasBody(request);
}

function hasBody(request: NodeRequest): boolean {
  if ("stream" in request) return !request.stream.endAfterHeaders;
  const { "content-length": length = "0", "transfer-encoding": encoding } = request.headers;
  return length !== "0" || encoding !== undefined;
}

/**
 * The same lists whatever was asked for, so that a long question has no long answer. Origins that are not allowed get 204
 * too: browsers then name the missing header, and not the status, as what is wrong.
 */
function answerPreflight(isAllowed: boolean, response: NodeResponse): void {
  if (isAllowed) {
    response.setHeader("access-control-allow-methods", ALLOWED_METHODS);
    response.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
    response.setHeader("access-control-max-age", String(MAX_AGE_SECONDS));
  }
  response.statusCode = 204;
  response.end();
}
