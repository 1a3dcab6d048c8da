/** Connect's own clients as programs have them, over every protocol and HTTP version, each with a connection of its own. */
import type { DescService } from "@bufbuild/protobuf";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import type { HeaderLine, HttpVersion } from "./http.ts";
import type { Wire } from "./wire.ts";

/** A protocol over a version of HTTP. */
export interface Way {
  readonly protocol: Wire["protocol"];
  readonly http: HttpVersion;
}

/** All but gRPC over HTTP/1.1, which no client speaks. */
export const allWays: readonly Way[] = [
  { protocol: "grpc", http: "2" },
  { protocol: "grpc-web", http: "2" },
  { protocol: "grpc-web", http: "1.1" },
  { protocol: "connect", http: "2" },
  { protocol: "connect", http: "1.1" },
];

/** For example "grpc-web h2". */
export function wayName({ protocol, http }: Way): string {
  return `${protocol} h${http}`;
}

export interface OpenClient<C> extends Disposable {
  readonly client: C;
}

/** A client that sends these headers with every call. A contract made in a test has no types: `C` says what it is. */
export function openClient<C>(
  desc: DescService,
  way: Way,
  baseUrl: string,
  headers: readonly HeaderLine[] = [],
  encoding: Wire["encoding"] = "proto",
): OpenClient<C> {
  const withHeaders: Interceptor = (next) => (request) => {
    for (const [name, value] of headers) request.header.set(name, value);
    return next(request);
  };
  const sessionManager = new Http2SessionManager(baseUrl);
  const options = { baseUrl, interceptors: [withHeaders], useBinaryFormat: encoding === "proto" };
  return {
    client: createClient(desc, openTransport(way, options, sessionManager)) as C,
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}

function openTransport(
  { protocol, http }: Way,
  options: { baseUrl: string; interceptors: Interceptor[]; useBinaryFormat: boolean },
  sessionManager: Http2SessionManager,
): Transport {
  const version = http === "2" ? ({ httpVersion: "2", sessionManager } as const) : ({ httpVersion: "1.1" } as const);
  switch (protocol) {
    case "grpc":
      return createGrpcTransport({ ...options, sessionManager });
    case "grpc-web":
      return createGrpcWebTransport({ ...options, ...version });
    case "connect":
      return createConnectTransport({ ...options, ...version });
  }
}
