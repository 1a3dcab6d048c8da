/** A listener of a test's own, and bare connections to it: bytes are sent as they are, and what comes back is kept. */
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { systemClock } from "../clock.ts";
import { type Listener, type ListenOptions, listen, type RequestHandler } from "../listener/listener.ts";
import {
  clientOpening,
  FrameFlag,
  FrameReader,
  FrameType,
  http2Frame,
  postBlock,
  settingsAck,
} from "./http2-frames.ts";
import { until } from "./until.ts";

/** Answers with the protocol, the method and the body; a request that breaks off is not answered. */
export const echo: RequestHandler = (request, response) => {
  let body = "";
  request.on("data", (chunk) => {
    body += chunk;
  });
  request.on("end", () => response.end(`${request.httpVersion} ${request.method} ${body}`));
};

/** Listens on 127.0.0.1 with the system's clock, and echoes, unless told otherwise. */
export function startListener(options: Partial<ListenOptions> = {}): Promise<Listener> {
  return listen({ host: "127.0.0.1", port: 0, handler: echo, clock: systemClock, ...options });
}

/** A frame that came back. */
export interface ReceivedFrame {
  type: number;
  flags: number;
  streamId: number;
  payload: Buffer;
}

export interface RawConnection extends Disposable {
  readonly socket: net.Socket;
  /** All that came back so far. */
  text(): string;
  /** The same as HTTP/2. */
  readonly frames: ReceivedFrame[];
  /** Resolves with the first frame of this type, for this stream. */
  frame(type: number, streamId?: number): Promise<ReceivedFrame>;
  /** Resolves when the connection is closed, by whomever. */
  closed(): Promise<void>;
}

/** Opens a connection; with `from`, from that address of this machine. */
export async function openRaw(port: number, from = "127.0.0.1"): Promise<RawConnection> {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress: from, noDelay: true });
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  await Promise.race([once(socket, "connect"), closed]).catch(() => {});
  return readRaw(socket, closed);
}

/** Keeps what a connected socket receives. */
export function readRaw(socket: net.Socket, closed: Promise<void>): RawConnection {
  const frames: ReceivedFrame[] = [];
  let text = "";
  const reader = new FrameReader((type, flags, streamId, bytes, start, end) => {
    frames.push({ type, flags, streamId, payload: Buffer.from(bytes.subarray(start, end)) });
  });
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    reader.push(chunk);
  });
  return {
    socket,
    frames,
    text: () => text,
    frame: (type, streamId) =>
      until(`frame ${type} of stream ${streamId}`, () =>
        frames.find((frame) => frame.type === type && (streamId === undefined || frame.streamId === streamId)),
      ),
    closed: () => closed,
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

/** What opens an HTTP/2 connection, our settings acknowledged. */
export const opening = Buffer.concat([clientOpening(), settingsAck]);

/** HEADERS of a POST, which end the stream unless told that a body follows. */
export function postFrame(streamId: number, { path = "/", hasBody = false } = {}): Buffer {
  const flags = FrameFlag.endHeaders | (hasBody ? 0 : FrameFlag.endStream);
  return http2Frame(FrameType.headers, flags, streamId, postBlock("x", path, []));
}

/** A client of node:http2, connected. */
export async function openHttp2(url: string, options?: http2.SecureClientSessionOptions) {
  const session = http2.connect(url, options);
  session.on("error", () => {});
  await once(session, "remoteSettings");
  return Object.assign(session, { [Symbol.dispose]: () => session.destroy() });
}

/** One request: resolves with status and body, or rejects when the stream is reset. */
export async function callHttp2(
  session: http2.ClientHttp2Session,
  body = "",
  headers: http2.OutgoingHttpHeaders = {},
): Promise<{ status: number; body: string }> {
  const stream = session.request({ ":method": "POST", ":path": "/", ...headers });
  const response = once(stream, "response");
  response.catch(() => {});
  stream.end(body);
  let text = "";
  for await (const chunk of stream) text += chunk;
  const [answer] = await response;
  return { status: Number(answer[":status"]), body: text };
}
