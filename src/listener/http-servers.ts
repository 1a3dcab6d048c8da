/** The servers of Node that a listener hands its connections to, with its limits. They never listen themselves. */
import http from "node:http";
import http2 from "node:http2";
import { checkPeriodMs, type ListenerLimits } from "./limits.ts";

/** The whole answer to a request in the clear where TLS is required. */
export const TLS_REQUIRED = [
  "HTTP/1.1 400 Bad Request",
  "Content-Type: text/plain",
  "Content-Length: 13",
  "Connection: close",
  "",
  "TLS required\n",
].join("\r\n");

const HTTP1_CHECK_MS = 100;

export function createHttp1Server(limits: ListenerLimits, onRequest: http.RequestListener): http.Server {
  // Whoever is late when Node looks is closed in the same turn: it looks often, so that few are.
  const periodMs = Math.min(checkPeriodMs(limits.headersTimeoutMs), HTTP1_CHECK_MS);
  return http.createServer(
    {
      maxHeaderSize: limits.maxHeaderBytes,
      // Node looks only once a period, so a period is taken off: the limit holds, not the limit and a period.
      headersTimeout: limits.headersTimeoutMs - periodMs,
      requestTimeout: limits.requestTimeoutMs - periodMs,
      connectionsCheckingInterval: periodMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
    },
    onRequest,
  );
}

export function createHttp2Server(limits: ListenerLimits): http2.Http2Server {
  return http2.createServer({
    maxSessionMemory: limits.maxSessionMemoryMegabytes,
    streamResetBurst: limits.streamResetBurst,
    streamResetRate: limits.streamResetsPerSecond,
    settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
  });
}

/** The size of a header list (names and values in turn) as RFC 9113 counts it: 32 bytes more for each pair. */
export function headerListBytes(rawHeaders: string[]): number {
  return rawHeaders.reduce((sum, text) => sum + Buffer.byteLength(text) + 16, 0);
}

/** Node takes the first of two Host lines; RFC 9112 wants the request refused, since a proxy may take the other. */
export function hasTwoHosts(rawHeaders: string[]): boolean {
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]!;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  return hosts > 1;
}
