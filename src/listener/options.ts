/** What a listener is told, and what it is to others. */
import type http from "node:http";
import type http2 from "node:http2";
import type net from "node:net";
import type { Clock } from "../clock.ts";
import type { ListenerLimits } from "./limits.ts";
import type { Peer } from "./peer.ts";
import type { TlsPaths } from "./tls.ts";

export type NodeRequest = http.IncomingMessage | http2.Http2ServerRequest;
export type NodeResponse = http.ServerResponse | http2.Http2ServerResponse;

/** What answers a request of this peer. It must not throw. */
export type RequestHandler = (request: NodeRequest, response: NodeResponse, peer: Peer) => void;

/** Takes an HTTP/2 stream whose headers have arrived (true), or leaves it to the handler (false). It must not throw. */
export type TakeStream = (
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  rawHeaders: string[],
  peer: Peer,
) => boolean;

export interface ListenOptions {
  /** Address or name to bind, for example "127.0.0.1" or "0.0.0.0". */
  host: string;
  /** 0 takes a free port. */
  port: number;
  handler: RequestHandler;
  /** Asked first for every HTTP/2 stream that expects nothing (RFC 9110, 10.1.1). An error of the stream that it takes is nothing it has to listen to. */
  takeStream?: TakeStream;
  /** Files of the certificate; without them there is no TLS. */
  tls?: TlsPaths;
  /** Whether connections without TLS are served beside those with it; the default is to accept them. */
  cleartext?: "accept" | "refuse";
  /** Told of a changed certificate that cannot be used; the old one stays. */
  onCertificateProblem?: (error: Error) => void;
  /** Told, once for each penalty, of an address that flooded: its connections are closed, and new ones refused for a while. */
  onFlood?: (address: string) => void;
  /** Proxies whose X-Forwarded-For is believed, and whose connections are neither counted nor barred. */
  trustedProxies?: net.BlockList;
  limits?: Partial<ListenerLimits>;
  clock: Clock;
}

export interface Listener extends AsyncDisposable {
  readonly host: string;
  /** The real port, also when 0 was asked for. */
  readonly port: number;
  /** For example "http://127.0.0.1:8080", or "https://..." where it has a certificate; for a wildcard host the loopback. */
  readonly url: string;
  /** Open TCP connections. */
  connectionCount(): number;
  /**
   * Stops accepting, says GOAWAY to every HTTP/2 client, closes idle connections, waits until the calls in flight have
   * ended, and after `graceMs` destroys what is left. Resolves when the port is free and no connection is open. May be
   * called again: the earliest end of grace counts, so drain(0) cuts a drain short.
   */
  drain(graceMs: number): Promise<void>;
}
