/**
 * One accepted connection: what runs over it, and since when it does nothing that may last. Its sweep, which the listener
 * calls again and again, tells when it took too long; it goes by the listener's clock. Many connections say nothing and cost
 * no more than is here: what a protocol needs is made when it is known.
 */
import type http from "node:http";
import type http2 from "node:http2";
import type net from "node:net";
import { Http2Streams, type Verdict } from "./http2-streams.ts";
import type { ListenerLimits } from "./limits.ts";
import type { Peer } from "./peer.ts";
import { UnreadAnswers } from "./unread-answers.ts";

const CONNECTION = Symbol("connection");
type Owned = net.Socket & { [CONNECTION]?: Connection };

/** The connection that a socket, or TLS on one, belongs to. */
export function connectionOf(socket: net.Socket): Connection {
  return (socket as Owned)[CONNECTION]!;
}

export class Connection {
  /** As it was accepted. */
  readonly socket: net.Socket;
  /** What HTTP runs over: the socket, or TLS on it. */
  #carrier: net.Socket;
  peer: Peer;
  /** Whose share of the listener it takes; undefined for a proxy that speaks for others. */
  readonly group: string | undefined;
  /** `greeting`: protocol unknown yet. `closing`: we have said goodbye and wait for the peer. */
  phase: "greeting" | "http1" | "http2" | "closing" = "greeting";
  /** What came before the protocol was known. */
  firstBytes: Buffer | undefined = undefined;
  session: http2.ServerHttp2Session | undefined = undefined;
  #streams: Http2Streams | undefined = undefined;
  #responses: Set<http.ServerResponse> | undefined = undefined;
  #unread: UnreadAnswers<net.Socket> | undefined = undefined;
  readonly #now: () => number;
  /** Monotonic time at which the phase began. */
  #since: number;

  constructor(socket: net.Socket, peer: Peer, group: string | undefined, now: () => number) {
    this.socket = socket;
    this.#carrier = socket;
    this.peer = peer;
    this.group = group;
    this.#now = now;
    this.#since = now();
    (socket as Owned)[CONNECTION] = this;
  }

  get carrier(): net.Socket {
    return this.#carrier;
  }

  /** HTTP runs over TLS from now on. */
  encryptBy(carrier: net.Socket): void {
    this.#carrier = carrier;
    this.peer = { address: this.peer.address, isEncrypted: true };
    (carrier as Owned)[CONNECTION] = this;
  }

  /** HTTP/1.1: requests that were not answered to the end. */
  get responses(): Set<http.ServerResponse> {
    this.#responses ??= new Set();
    return this.#responses;
  }

  /** HTTP/2 only. */
  get streams(): Http2Streams {
    return this.#streams!;
  }

  enter(phase: Connection["phase"]): void {
    this.phase = phase;
    if (phase === "http2") this.#streams = new Http2Streams(this.#now);
    this.firstBytes = undefined;
    this.#since = this.#now();
  }

  /** Ends the connection with these last words, which the peer gets a moment to read. */
  endWith(lastWords: string): void {
    this.enter("closing");
    this.carrier.end(lastWords);
    this.carrier.resume();
  }

  destroy(): void {
    this.#carrier.destroy();
    this.socket.destroy();
  }

  /** What is to become of it: anything but "fine" ends it. HTTP/1.1's waiting for requests is watched by its own server. */
  sweep(now: number, limits: ListenerLimits): Verdict {
    // A session that ended has closed our half of the socket, and waits for the peer's without limit.
    if (this.phase === "http2" && this.session?.destroyed) this.enter("closing");
    const phaseMs = now - this.#since;
    switch (this.phase) {
      case "greeting":
        return phaseMs >= limits.sniffTimeoutMs ? "stuck" : "fine";
      case "closing":
        return phaseMs >= limits.lingerTimeoutMs ? "stuck" : "fine";
      case "http1":
        return this.#isAnswerUnread(now, limits) ? "stuck" : "fine";
      case "http2":
        return this.#sweepStreams(now, limits);
    }
  }

  #isAnswerUnread(now: number, { unreadAnswerTimeoutMs }: ListenerLimits): boolean {
    const carrier = this.#carrier;
    const pendingBytes = carrier.writableLength;
    if (pendingBytes === 0) {
      this.#unread = undefined;
      return false;
    }
    this.#unread ??= new UnreadAnswers();
    const progress = carrier.bytesWritten - pendingBytes;
    return this.#unread.isStuck(carrier, progress, pendingBytes, now, unreadAnswerTimeoutMs);
  }

  #sweepStreams(now: number, limits: ListenerLimits): Verdict {
    const { streams } = this;
    const verdict = streams.sweep(now, this.socket.bytesRead, limits);
    const isIdle = streams.size === 0 && now - streams.idleSince >= limits.sessionIdleTimeoutMs;
    if (verdict === "fine" && isIdle) this.session?.close();
    return verdict;
  }
}
