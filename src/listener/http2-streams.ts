/**
 * The streams of one HTTP/2 connection, and what its peer sends beside them: which streams are stuck, since when there is
 * none, and whether the peer floods us. What is made here is made once per connection, nothing for each stream.
 */
import http2 from "node:http2";
import type { ListenerLimits } from "./limits.ts";
import { UnreadAnswers } from "./unread-answers.ts";

const CONTROL_WINDOW_MS = 1_000;
/** Headers at their limit, and the frames around a request. */
const CONTROL_BYTES_PER_REQUEST = 32 * 1024;
const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;

/** What nghttp2 calls its errors (`errno` of an error of a session). */
const NGHTTP2_ERR_PROTO = -505;
const NGHTTP2_ERR_FLOW_CONTROL = -524;
const NGHTTP2_ERR_CALLBACK_FAILURE = -902;
const NGHTTP2_ERR_FLOODED = -904;
const NGHTTP2_ERR_TOO_MANY_CONTINUATIONS = -905;
const FLOODS = new Set<number | undefined>([
  NGHTTP2_ERR_FLOW_CONTROL, // windows that overflow: no client comes near, and each costs us a session
  NGHTTP2_ERR_FLOODED,
  NGHTTP2_ERR_TOO_MANY_CONTINUATIONS,
]);
/** Errors of many meanings; with as many resets as this in a second, they mean that the resets were too many. */
const MAYBE_FLOODS = new Set<number | undefined>([NGHTTP2_ERR_PROTO, NGHTTP2_ERR_CALLBACK_FAILURE]);
const MANY_RESETS = 50;

/** What a sweep found that ends the connection: a peer that floods, or one that does not even read a reset. */
export type Verdict = "fine" | "flood" | "stuck";

export class Http2Streams {
  readonly #open = new Set<http2.ServerHttp2Stream>();
  readonly #unread = new UnreadAnswers<http2.ServerHttp2Stream>();
  /** What came in the present second. */
  #receivedBytes = 0;
  #requests = 0;
  #resets = 0;
  #mayBeBody = false;
  #windowSince: number;
  /** Monotonic time since which no stream is open. */
  idleSince: number;
  // Listeners that all streams share.
  readonly #onClose: (this: http2.ServerHttp2Stream) => void;
  readonly #onDrain: (this: http2.ServerHttp2Stream) => void;

  constructor(now: () => number) {
    this.#windowSince = now();
    this.idleSince = this.#windowSince;
    const streams = this;
    this.#onClose = function () {
      streams.#open.delete(this);
      streams.#unread.forget(this);
      streams.#countReset(this);
      if (streams.#open.size === 0) streams.idleSince = now();
    };
    this.#onDrain = function () {
      streams.#forget(this);
    };
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * Counts a stream until it closes; from now on, an error of it harms nobody. False when it has been reset already, which
   * leaves nothing to do: whoever resets by the thousand does not get as far as a call.
   */
  follow(stream: http2.ServerHttp2Stream): boolean {
    this.#requests++;
    stream.on("error", ignore); // a reset by the peer; "close" follows
    if (stream.closed) {
      this.#countReset(stream);
      stream.destroy(); // Node does not where the reset said "no error"
      return false;
    }
    this.#open.add(stream);
    if (!stream.endAfterHeaders) this.#mayBeBody = true;
    stream.on("close", this.#onClose);
    return true;
  }

  /** Whether the error that ended the session says that the peer did what no honest client does. */
  isFlood(error: NodeJS.ErrnoException): boolean {
    if (error.code === "ERR_HTTP2_TOO_MANY_INVALID_FRAMES" || FLOODS.has(error.errno)) return true;
    return MAYBE_FLOODS.has(error.errno) && this.#resets >= MANY_RESETS;
  }

  /** The code for what is wrong in a server is also what Node gives to streams that end with their session. */
  #countReset({ rstCode }: http2.ServerHttp2Stream): void {
    if (rstCode !== NGHTTP2_NO_ERROR && rstCode !== NGHTTP2_INTERNAL_ERROR) this.#resets++;
  }

  sweep(now: number, receivedBytes: number, limits: ListenerLimits): Verdict {
    if (this.#isFlooded(now, receivedBytes, limits)) return "flood";
    for (const stream of this.#open) if (this.#isStuck(stream, now, limits)) return "stuck";
    return "fine";
  }

  #isStuck(stream: http2.ServerHttp2Stream, now: number, limits: ListenerLimits): boolean {
    const pendingBytes = stream.bufferSize;
    const givenUpAt = this.#unread.givenUpAt(stream);
    // The reset does not get out either: the peer reads nothing at all.
    if (givenUpAt !== undefined) return now - givenUpAt >= limits.lingerTimeoutMs;
    if (pendingBytes === 0 && !stream.writableFinished) {
      this.#forget(stream);
      return false;
    }
    if (!this.#unread.has(stream)) stream.on("drain", this.#onDrain);
    if (!this.#unread.isStuck(stream, -pendingBytes, pendingBytes, now, limits.unreadAnswerTimeoutMs)) return false;
    if (pendingBytes === 0) stream.destroy();
    else {
      this.#unread.giveUp(stream, now);
      stream.close(NGHTTP2_CANCEL);
    }
    return false;
  }

  #forget(stream: http2.ServerHttp2Stream): void {
    if (this.#unread.forget(stream)) stream.off("drain", this.#onDrain);
  }

  /**
   * Whether the peer sends much and asks for little, such as a flood of WINDOW_UPDATE, of which Node tells nobody. Nor does it
   * tell what is body of what came; so while a body is on its way, that request's deadline is the bound.
   */
  #isFlooded(now: number, receivedBytes: number, { maxControlBytesPerSecond }: ListenerLimits): boolean {
    const elapsedMs = now - this.#windowSince;
    if (elapsedMs < CONTROL_WINDOW_MS) return false;
    const allowed = (maxControlBytesPerSecond * elapsedMs) / 1_000 + this.#requests * CONTROL_BYTES_PER_REQUEST;
    if (!this.#mayBeBody && receivedBytes - this.#receivedBytes > allowed) return true;
    this.#windowSince = now;
    this.#receivedBytes = receivedBytes;
    this.#requests = 0;
    this.#resets = 0;
    this.#mayBeBody = false;
    for (const { readableEnded } of this.#open) if (!readableEnded) this.#mayBeBody = true;
    return false;
  }
}

function ignore(): void {}
