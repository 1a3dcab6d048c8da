/**
 * One HTTP/2 connection that notices when its peer has gone without a word: behind a black hole, every call of it would wait
 * for its own deadline, for as long as the system goes on sending (a quarter of an hour). Connect's own keep-alive pings are
 * not used: they can throw out of a timer when a connection ends just then (connect-es 1795).
 */
import http2 from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { type createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

/** What Connect wants of a connection; it does not export the type. */
type SessionManager = NonNullable<Parameters<typeof createGrpcTransport>[0]["sessionManager"]>;

/** For the peer to answer a ping: not a method that takes its time, but HTTP/2 itself. */
const PONG_TIMEOUT_MS = 2_000;
/** How long a connection is silent before the system asks, once a second and ten times, whether the peer is still there. */
const KEEP_ALIVE_AFTER_MS = 10_000;

/** Opens a connection when it is needed, and a new one when the old one is gone; none once it was disposed of. */
export class LiveConnection implements SessionManager, Disposable {
  readonly authority: string;
  readonly #manager: Http2SessionManager;
  readonly #known = new WeakSet<http2.Http2Session>();
  readonly #pinged = new WeakSet<http2.Http2Session>();
  readonly #pongTimeoutMs: number;
  #isClosed = false;

  constructor(
    baseUrl: string,
    options: http2.SecureClientSessionOptions = {},
    { pongTimeoutMs = PONG_TIMEOUT_MS }: { pongTimeoutMs?: number } = {},
  ) {
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_AFTER_MS };
    this.#manager = new Http2SessionManager(baseUrl, undefined, { ...keepAlive, ...options });
    this.authority = this.#manager.authority;
    this.#pongTimeoutMs = pongTimeoutMs;
  }

  async request(...request: Parameters<SessionManager["request"]>): Promise<http2.ClientHttp2Stream> {
    if (this.#isClosed) throw closed();
    const stream = await this.#manager.request(...request);
    const { session } = stream;
    if (session) this.#hearErrors(session);
    if (this.#isClosed) {
      // Closed while it waited: Connect's manager may have opened another one for it.
      stream.on("error", () => {});
      this.#manager.abort();
      throw closed();
    }
    let isAnswered = false;
    stream.once("response", () => {
      isAnswered = true;
    });
    stream.once("close", () => {
      if (!isAnswered && session) this.#ask(session);
    });
    return stream;
  }

  notifyResponseByteRead(stream: http2.ClientHttp2Stream): void {
    this.#manager.notifyResponseByteRead(stream);
  }

  /** Ends the connection, and the calls over it. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#manager.abort();
  }

  /**
   * Connect's manager destroys a connection that is told to go away, with an error that is emitted a moment later: whoever closes the manager
   * in between takes its listener away, and the error would end the process.
   */
  #hearErrors(session: http2.Http2Session): void {
    if (this.#known.has(session)) return;
    this.#known.add(session);
    session.on("error", () => {});
  }

  /** Destroys a connection over which a call got no answer, unless the peer answers a ping. One at a time is enough. */
  #ask(session: http2.Http2Session): void {
    if (session.closed || session.destroyed || this.#pinged.has(session)) return;
    this.#pinged.add(session);
    const timer = setTimeout(() => giveUp(session), this.#pongTimeoutMs).unref();
    // Nothing lies between the look at the session and this, so it cannot throw for one that has ended.
    session.ping(() => {
      clearTimeout(timer);
      this.#pinged.delete(session);
    });
  }
}

function closed(): ConnectError {
  return new ConnectError("the connection was closed", Code.Canceled);
}

/** With an error, without which its calls would not end before their deadlines. */
function giveUp(session: http2.Http2Session): void {
  session.destroy(
    new ConnectError("the peer does not answer", Code.Unavailable),
    http2.constants.NGHTTP2_CONNECT_ERROR,
  );
}
