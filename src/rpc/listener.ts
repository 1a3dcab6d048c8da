/**
 * One cleartext TCP port for HTTP/1.1 and HTTP/2 (prior knowledge), told apart by the first bytes of each connection.
 * Promises that every connection costs a bounded amount of memory and, while nothing is being called over it, of time;
 * and that it can be drained: calls in flight end, idle connections go at once, and nothing outlives the grace.
 * A fault of a peer's socket never reaches the process.
 */
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import type { Clock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";

export type NodeRequest = http.IncomingMessage | http2.Http2ServerRequest;
export type NodeResponse = http.ServerResponse | http2.Http2ServerResponse;

/** What answers a request. It must not throw. */
export type RequestHandler = (request: NodeRequest, response: NodeResponse) => void;

/** Bounds on what a peer may take, before and around the calls themselves (those have deadlines of their own). */
export interface ListenerLimits {
  /** From accept until the first bytes say which protocol it is. */
  sniffTimeoutMs: number;
  /** HTTP/1.1: for all headers of a request. */
  headersTimeoutMs: number;
  /** HTTP/1.1: for a whole request, body included. */
  requestTimeoutMs: number;
  /** HTTP/1.1: between two requests. */
  keepAliveTimeoutMs: number;
  /** HTTP/2: without an open stream; pings do not count. */
  sessionIdleTimeoutMs: number;
  /** After our end of a connection was closed, for the peer to read what is under way and close its own. */
  lingerTimeoutMs: number;
  /** All headers of a request: more is answered 431 (HTTP/1.1) or the stream is reset (HTTP/2). */
  maxHeaderBytes: number;
  /** HTTP/2: open streams per connection. */
  maxConcurrentStreams: number;
  /** HTTP/2: memory per connection, in megabytes, above which new streams are refused. */
  maxSessionMemoryMegabytes: number;
}

export const defaultLimits: Readonly<ListenerLimits> = {
  sniffTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 65_000, // longer than the 60 s after which common balancers drop an idle connection themselves
  sessionIdleTimeoutMs: 300_000,
  lingerTimeoutMs: 1_000,
  maxHeaderBytes: 16 * 1024,
  maxConcurrentStreams: 100,
  maxSessionMemoryMegabytes: 10,
};

export interface ListenOptions {
  /** Address or name to bind, for example "127.0.0.1" or "0.0.0.0". */
  host: string;
  /** 0 takes a free port. */
  port: number;
  handler: RequestHandler;
  limits?: Partial<ListenerLimits>;
  clock: Clock;
}

export interface Listener extends AsyncDisposable {
  readonly host: string;
  /** The real port, also when 0 was asked for. */
  readonly port: number;
  /** For example "http://127.0.0.1:8080"; for a wildcard host the loopback address. */
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

/** Opens the port. Throws StartupError (exit code 69) naming host and port when it cannot be had. */
export async function listen(options: ListenOptions): Promise<Listener> {
  const limits = { ...defaultLimits, ...options.limits };
  const listener = new SharedPortListener(options.host, options.handler, limits, options.clock);
  await listener.open(options.port);
  return listener;
}

const HTTP2_PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** The protocol that these first bytes speak; undefined while they could still be either ("P" of POST or of PRI). */
function protocolOf(firstBytes: Buffer): "http1" | "http2" | undefined {
  // A TLS ClientHello would be told apart here, by its first byte 0x16.
  const length = Math.min(firstBytes.length, HTTP2_PREFACE.length);
  if (!firstBytes.subarray(0, length).equals(HTTP2_PREFACE.subarray(0, length))) return "http1";
  return length === HTTP2_PREFACE.length ? "http2" : undefined;
}

/** One accepted socket, and since when it is doing nothing that may last. */
interface Connection {
  readonly socket: net.Socket;
  /** `greeting`: protocol unknown yet. `closing`: we have said goodbye and wait for the peer. */
  phase: "greeting" | "http1" | "http2" | "closing";
  /** Monotonic time at which the phase, or an HTTP/2 session's idleness, began. */
  since: number;
  session?: http2.ServerHttp2Session;
  openStreams: number;
}

class SharedPortListener implements Listener {
  readonly host: string;
  port = 0;
  readonly #handler: RequestHandler;
  readonly #limits: ListenerLimits;
  readonly #clock: Clock;
  readonly #server: net.Server;
  readonly #http1: http.Server;
  readonly #http2: http2.Http2Server;
  readonly #connections = new Set<Connection>();
  readonly #http1Responses = new Set<http.ServerResponse>();
  readonly #closed: Promise<void>;
  #sweepTimer: NodeJS.Timeout | undefined;
  #draining = false;

  constructor(host: string, handler: RequestHandler, limits: ListenerLimits, clock: Clock) {
    this.host = host;
    this.#handler = handler;
    this.#limits = limits;
    this.#clock = clock;
    this.#http1 = createHttp1Server(limits, (request, response) => this.#answerHttp1(request, response));
    this.#http2 = createHttp2Server(limits, (request, response) => this.#answerHttp2(request, response));
    // Without noDelay, Nagle's algorithm and delayed acknowledgements make gRPC ten times slower. keepAlive finds peers
    // that vanished without a word while a stream is open.
    const socketOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
    this.#server = net.createServer(socketOptions, (socket) => this.#accept(socket));
    this.#closed = new Promise((resolve) => this.#server.once("close", resolve));
  }

  get url(): string {
    const wildcards: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
    const host = wildcards[this.host] ?? this.host;
    return `http://${net.isIPv6(host) ? `[${host}]` : host}:${this.port}`;
  }

  connectionCount(): number {
    return this.#connections.size;
  }

  async open(port: number): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen({ host: this.host, port }, resolve);
      });
    } catch (error) {
      throw startupErrorOf(error, this.host, port);
    }
    // From here an "error" is a failed accept (out of file descriptors): that client retries, the others go on.
    this.#server.removeAllListeners("error").on("error", () => {});
    this.port = (this.#server.address() as net.AddressInfo).port;
    // A server that only gets its connections handed starts its timeouts and idle tracking on this event alone.
    this.#http1.emit("listening");
    const { sniffTimeoutMs, sessionIdleTimeoutMs, lingerTimeoutMs } = this.#limits;
    const periodMs = checkPeriodMs(Math.min(sniffTimeoutMs, sessionIdleTimeoutMs, lingerTimeoutMs));
    this.#sweepTimer = setInterval(() => this.#sweep(), periodMs).unref();
  }

  async drain(graceMs: number): Promise<void> {
    if (!this.#draining) this.#beginDrain();
    const cutTimer = setTimeout(() => {
      for (const connection of this.#connections) connection.socket.destroy();
    }, graceMs);
    await this.#closed;
    // The server counts a connection out when it is being destroyed; wait for the last ones to be gone.
    await Promise.all(
      Array.from(this.#connections, ({ socket }) => new Promise<unknown>((resolve) => socket.once("close", resolve))),
    );
    clearTimeout(cutTimer);
    clearInterval(this.#sweepTimer);
    this.#http1.close(); // ends its interval
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain(0);
  }

  #beginDrain(): void {
    this.#draining = true;
    this.#server.close();
    for (const response of this.#http1Responses) response.shouldKeepAlive = false;
    this.#http1.closeIdleConnections();
    for (const connection of this.#connections) {
      if (connection.phase === "greeting") connection.socket.destroy();
      connection.session?.close();
    }
  }

  #accept(socket: net.Socket): void {
    const connection: Connection = { socket, phase: "greeting", since: this.#clock.monotonic(), openStreams: 0 };
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
    socket.on("error", () => {}); // a reset by the peer; "close" follows
    let firstBytes: Buffer = Buffer.alloc(0);
    const onReadable = () => {
      for (let chunk: Buffer | null = socket.read(); chunk; chunk = socket.read()) {
        firstBytes = Buffer.concat([firstBytes, chunk]);
      }
      const protocol = protocolOf(firstBytes);
      if (!protocol || socket.destroyed) return;
      socket.off("readable", onReadable);
      socket.unshift(firstBytes);
      this.#handOver(connection, protocol);
    };
    socket.on("readable", onReadable);
  }

  #handOver(connection: Connection, protocol: "http1" | "http2"): void {
    connection.phase = protocol;
    connection.since = this.#clock.monotonic();
    if (protocol === "http1") {
      this.#http1.emit("connection", connection.socket);
      return;
    }
    // The server makes the session, and says so, inside emit("connection").
    this.#http2.once("session", (session) => this.#followSession(connection, session));
    this.#http2.emit("connection", connection.socket);
  }

  #followSession(connection: Connection, session: http2.ServerHttp2Session): void {
    connection.session = session;
    session.on("stream", (stream) => {
      connection.openStreams++;
      stream.once("close", () => {
        connection.openStreams--;
        connection.since = this.#clock.monotonic();
      });
    });
  }

  #answerHttp1(request: http.IncomingMessage, response: http.ServerResponse): void {
    if (this.#draining) response.shouldKeepAlive = false;
    this.#http1Responses.add(response);
    response.once("close", () => {
      this.#http1Responses.delete(response);
      // One whose headers had already promised keep-alive when the drain began.
      if (this.#draining) this.#http1.closeIdleConnections();
    });
    this.#handler(request, response);
  }

  #answerHttp2(request: http2.Http2ServerRequest, response: http2.Http2ServerResponse): void {
    // The header limit binds a peer only once it has acknowledged our settings, which a hostile one never does.
    const unbound = request.stream.session?.pendingSettingsAck;
    if (unbound && headerListBytes(request.rawHeaders) > this.#limits.maxHeaderBytes) {
      request.stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    this.#handler(request, response);
  }

  /** Ends what has been idle for too long. HTTP/1.1 connections are watched by their own server. */
  #sweep(): void {
    const { sniffTimeoutMs, sessionIdleTimeoutMs, lingerTimeoutMs } = this.#limits;
    const now = this.#clock.monotonic();
    for (const connection of this.#connections) {
      // A session that ended has closed our half of the socket, and waits for the peer's without limit.
      if (connection.phase === "http2" && connection.session?.destroyed) {
        connection.phase = "closing";
        connection.since = now;
      }
      const idleMs = now - connection.since;
      if (connection.phase === "greeting" && idleMs >= sniffTimeoutMs) connection.socket.destroy();
      if (connection.phase === "closing" && idleMs >= lingerTimeoutMs) connection.socket.destroy();
      const idleSession = connection.phase === "http2" && connection.openStreams === 0;
      if (idleSession && idleMs >= sessionIdleTimeoutMs) connection.session?.close();
    }
  }
}

/** How often to look for something that must end after `timeoutMs`: often enough to be late by a tenth at most. */
function checkPeriodMs(timeoutMs: number): number {
  return Math.min(Math.max(timeoutMs / 10, 10), 1_000);
}

function createHttp1Server(limits: ListenerLimits, onRequest: http.RequestListener): http.Server {
  const periodMs = checkPeriodMs(limits.headersTimeoutMs);
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

type Http2RequestListener = (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void;

function createHttp2Server(limits: ListenerLimits, onRequest: Http2RequestListener): http2.Http2Server {
  return http2.createServer(
    {
      maxSessionMemory: limits.maxSessionMemoryMegabytes,
      settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
    },
    onRequest,
  );
}

/** The size of a header list (names and values in turn) as RFC 9113 counts it: 32 bytes more for each pair. */
function headerListBytes(rawHeaders: string[]): number {
  return rawHeaders.reduce((sum, text) => sum + Buffer.byteLength(text) + 16, 0);
}

function startupErrorOf(error: unknown, host: string, port: number): StartupError {
  const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
  const reasons: Record<string, string> = {
    EADDRINUSE: "the port is in use",
    EACCES: "not permitted (ports below 1024 need a privilege)",
    EADDRNOTAVAIL: "this machine does not have that address",
    ENOTFOUND: "the host name is not known",
    ERR_SOCKET_BAD_PORT: "a port is 0 to 65535",
  };
  const message = `cannot listen on ${host}:${port}: ${reasons[code] ?? code}`;
  return new StartupError(message, ExitCode.unavailable, { cause: error });
}
