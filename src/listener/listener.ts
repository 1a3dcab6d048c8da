/**
 * One TCP port for HTTP/1.1 and HTTP/2, over TLS (ALPN) or in the clear (prior knowledge), told apart by the first bytes of
 * each connection. Promises that every connection costs a bounded amount of memory and, while nothing is being called over
 * it, of time (connections.ts); and that it can be drained: calls in flight end, idle connections go at once, and nothing
 * outlives the grace. A fault of a peer's socket never reaches the process.
 */
import type http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { addressGroup } from "./address.ts";
import { Admission } from "./admission.ts";
import { Connection, connectionOf } from "./connections.ts";
import { type Protocol, protocolOf } from "./first-bytes.ts";
import { createHttp1Server, createHttp2Server, hasTwoHosts, headerListBytes, TLS_REQUIRED } from "./http-servers.ts";
import { checkPeriodMs, defaultLimits, type ListenerLimits } from "./limits.ts";
import { openPort } from "./open-port.ts";
import type { Listener, ListenOptions } from "./options.ts";
import { forwardedPeer, isTrustedProxy, type Peer, plainAddress } from "./peer.ts";
import { Sweep } from "./sweep.ts";
import { openTls, type TlsServer } from "./tls.ts";

export type {
  Listener,
  ListenOptions,
  NodeRequest,
  NodeResponse,
  RequestHandler,
  TakeStream,
} from "./options.ts";
export type { Peer } from "./peer.ts";

/**
 * Opens the port. Throws a StartupError: naming host and port when these cannot be had (exit code 69), naming the file when
 * the certificate cannot be used (exit code 78).
 */
export async function listen(options: ListenOptions): Promise<Listener> {
  const limits = { ...defaultLimits, ...options.limits };
  const listener = new SharedPortListener(options, limits);
  await listener.open(options);
  return listener;
}

class SharedPortListener implements Listener {
  readonly host: string;
  port = 0;
  readonly #options: ListenOptions;
  readonly #limits: ListenerLimits;
  readonly #server: net.Server;
  readonly #http1: http.Server;
  readonly #http2: http2.Http2Server;
  /** Never listens and has no sessions: makes a request and a response of each stream that it is handed. */
  readonly #http2Requests: http2.Http2Server;
  readonly #connections = new Set<Connection>();
  readonly #admission: Admission;
  readonly #sweep: Sweep;
  readonly #now: () => number;
  // Listeners that all sockets share: a crowd of connections is to cost little.
  readonly #onReadable: (this: net.Socket) => void;
  readonly #onClose: (this: net.Socket) => void;
  readonly #closed: Promise<void>;
  #tls: TlsServer | undefined;
  #certificateCheck: { at: number; done: Promise<void> } = { at: 0, done: Promise.resolve() };
  /** The client of the stream that is becoming a request just now. */
  #peer: Peer | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  #draining = false;

  constructor(options: ListenOptions, limits: ListenerLimits) {
    this.host = options.host;
    this.#options = options;
    this.#limits = limits;
    this.#now = () => options.clock.monotonic();
    this.#admission = new Admission(limits, options.clock);
    this.#sweep = new Sweep(this.#connections, (connection) => this.#endOverdue(connection));
    const listener = this;
    this.#onReadable = function () {
      listener.#greet(connectionOf(this));
    };
    this.#onClose = function () {
      listener.#forget(connectionOf(this));
    };
    this.#http1 = createHttp1Server(limits, (request, response) => this.#answerHttp1(request, response));
    this.#http2 = createHttp2Server(limits);
    this.#http2Requests = http2.createServer((request, response) => options.handler(request, response, this.#peer!));
    // Without noDelay, Nagle's algorithm and delayed acknowledgements make gRPC ten times slower. keepAlive finds peers
    // that vanished without a word while a stream is open.
    const socketOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
    this.#server = net.createServer(socketOptions, (socket) => this.#accept(socket));
    this.#closed = new Promise((resolve) => this.#server.once("close", resolve));
  }

  get url(): string {
    const wildcards: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
    const host = wildcards[this.host] ?? this.host;
    return `${this.#tls ? "https" : "http"}://${net.isIPv6(host) ? `[${host}]` : host}:${this.port}`;
  }

  connectionCount(): number {
    return this.#connections.size;
  }

  async open({ port, tls = {}, onCertificateProblem = () => {} }: ListenOptions): Promise<void> {
    this.#tls = await openTls(tls, onCertificateProblem);
    this.port = await openPort(this.#server, this.host, port);
    // A server that only gets its connections handed starts its timeouts and idle tracking on this event alone.
    this.#http1.emit("listening");
    const { sniffTimeoutMs, sessionIdleTimeoutMs, lingerTimeoutMs, unreadAnswerTimeoutMs } = this.#limits;
    const shortestMs = Math.min(sniffTimeoutMs, sessionIdleTimeoutMs, lingerTimeoutMs, unreadAnswerTimeoutMs);
    this.#certificateCheck.at = this.#options.clock.monotonic();
    this.#sweepTimer = setInterval(() => this.#check(), checkPeriodMs(shortestMs)).unref();
  }

  async drain(graceMs: number): Promise<void> {
    if (!this.#draining) this.#beginDrain();
    const cutTimer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, graceMs);
    await this.#closed;
    // The server counts a connection out when it is being destroyed; wait for the last ones to be gone.
    await Promise.all(
      Array.from(this.#connections, ({ socket }) => new Promise<unknown>((resolve) => socket.once("close", resolve))),
    );
    clearTimeout(cutTimer);
    clearInterval(this.#sweepTimer);
    this.#sweep.stop();
    this.#http1.close(); // ends its interval
    await this.#certificateCheck.done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain(0);
  }

  #beginDrain(): void {
    this.#draining = true;
    this.#server.close();
    for (const connection of this.#connections) {
      // After a TLS handshake, a client may leave its first request for later; Node does not count that as idle.
      if (connection.phase === "greeting" || connection.carrier.bytesRead === 0) connection.destroy();
      for (const response of connection.responses) response.shouldKeepAlive = false;
      connection.session?.close();
    }
    this.#http1.closeIdleConnections();
  }

  #accept(socket: net.Socket): void {
    socket.on("error", ignore); // a reset by the peer; "close" follows
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) return void socket.destroy(); // gone already
    const address = plainAddress(remoteAddress);
    const group = isTrustedProxy(address, this.#options.trustedProxies) ? undefined : addressGroup(address);
    // A reset leaves nothing behind in the kernel.
    if (group !== undefined && !this.#admission.enter(group)) return void socket.resetAndDestroy();
    const connection = new Connection(socket, { address, isEncrypted: false }, group, this.#now);
    this.#connections.add(connection);
    socket.on("close", this.#onClose);
    socket.on("readable", this.#onReadable);
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection);
    if (connection.group !== undefined) this.#admission.leave(connection.group);
  }

  /** Reads until it is clear what the peer speaks; whoever speaks with it finds the bytes unread. */
  #greet(connection: Connection): void {
    const { socket } = connection;
    const chunk: Buffer | null = socket.read();
    if (chunk === null || socket.destroyed) return; // the end
    const bytes = connection.firstBytes ? Buffer.concat([connection.firstBytes, chunk]) : chunk;
    connection.firstBytes = bytes;
    const protocol = protocolOf(bytes);
    if (!protocol) return;
    socket.off("readable", this.#onReadable);
    socket.unshift(bytes);
    this.#speak(connection, protocol);
  }

  #speak(connection: Connection, protocol: Protocol): void {
    if (this.#tls && protocol === "tls") {
      this.#tls.take(connection.socket, (carrier) => {
        connection.encryptBy(carrier);
        this.#serve(connection, carrier.alpnProtocol === "h2" ? "http2" : "http1");
      });
    } else if (this.#tls && this.#options.cleartext === "refuse") {
      // For people who mistook the scheme; what they sent has been seen by everybody on the way.
      if (protocol === "http1") connection.endWith(TLS_REQUIRED);
      else connection.destroy();
    } else this.#serve(connection, protocol === "http2" ? "http2" : "http1");
  }

  #serve(connection: Connection, protocol: "http1" | "http2"): void {
    const { carrier } = connection;
    connection.enter(protocol);
    if (protocol === "http1") {
      this.#http1.emit("connection", carrier);
      return;
    }
    // The server makes the session, and says so, inside emit("connection").
    this.#http2.once("session", (session) => {
      connection.session = session;
      session.on("error", (error) => {
        if (connection.streams.isFlood(error)) this.#bar(connection);
      });
      session.on("stream", (stream, headers, flags, rawHeaders) =>
        this.#takeStream(connection, session, stream, headers, flags, rawHeaders),
      );
    });
    this.#http2.emit("connection", carrier);
  }

  #answerHttp1(request: http.IncomingMessage, response: http.ServerResponse): void {
    request.on("error", ignore); // a connection that breaks before anybody reads the body
    const connection = connectionOf(request.socket);
    const { responses } = connection;
    if (connection.phase === "closing") return; // behind a request that was refused
    if (responses.size >= this.#limits.maxPipelinedRequests) {
      connection.destroy();
      this.#bar(connection);
      return;
    }
    if (hasTwoHosts(request.rawHeaders)) {
      connection.enter("closing");
      response.writeHead(400, { connection: "close", "content-type": "text/plain" }).end("two hosts\n");
      return;
    }
    if (this.#draining) response.shouldKeepAlive = false;
    responses.add(response);
    response.once("close", () => {
      responses.delete(response);
      // One whose headers had already promised keep-alive when the drain began.
      if (this.#draining) this.#http1.closeIdleConnections();
    });
    this.#options.handler(request, response, this.#peerOf(connection, request.headers));
  }

  /** Everything of HTTP/2 passes here; what is made here is made for every call. */
  #takeStream(
    connection: Connection,
    session: http2.ServerHttp2Session,
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    flags: number,
    rawHeaders: string[],
  ): void {
    if (!connection.streams.follow(stream)) return;
    // The header limit binds a peer only once it has acknowledged our settings, which a hostile one never does.
    if (session.pendingSettingsAck && headerListBytes(rawHeaders) > this.#limits.maxHeaderBytes) {
      stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    const peer = this.#peerOf(connection, headers);
    // What a client expects before it sends the body ("100-continue", or what there is not) is answered with the request.
    if (headers.expect === undefined && this.#options.takeStream?.(stream, headers, rawHeaders, peer)) return;
    // The request is made, and the handler called, inside of emit().
    this.#peer = peer;
    this.#http2Requests.emit("stream", stream, headers, flags, rawHeaders);
  }

  #peerOf(connection: Connection, headers: http2.IncomingHttpHeaders | http.IncomingHttpHeaders): Peer {
    if (connection.group !== undefined) return connection.peer;
    return forwardedPeer(connection.peer, headers["x-forwarded-for"], this.#options.trustedProxies);
  }

  /** Closes all connections of the address that this one is of, and keeps it out for a while. */
  #bar({ group }: Connection): void {
    if (group === undefined || !this.#admission.bar(group)) return;
    for (const connection of this.#connections) if (connection.group === group) connection.destroy();
    this.#options.onFlood?.(group);
  }

  #check(): void {
    this.#sweep.start();
    const now = this.#now();
    if (!this.#tls || this.#draining || now - this.#certificateCheck.at < this.#limits.certificateCheckMs) return;
    this.#certificateCheck = { at: now, done: this.#tls.check() };
  }

  /** True when it had to be cut. */
  #endOverdue(connection: Connection): boolean {
    const verdict = connection.sweep(this.#now(), this.#limits);
    if (verdict === "fine") return false;
    connection.destroy();
    if (verdict === "flood") this.#bar(connection);
    return true;
  }
}

function ignore(): void {}
