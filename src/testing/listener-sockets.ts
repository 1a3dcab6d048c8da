/** Bare connections for tests of the listener: what comes back is text, and is awaited to its end. */
import { once } from "node:events";
import type http2 from "node:http2";
import net from "node:net";

/** A connected socket, whose errors are nobody's. */
export async function rawSocket(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

/** All of a stream's text, when it has ended. */
export async function textOf(stream: AsyncIterable<unknown>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += chunk;
  return text;
}

/** One POST: resolves with its answer's text, which is empty when there was no answer. */
export function callHttp2(session: http2.ClientHttp2Session, body: string): Promise<string> {
  const stream = session.request({ ":method": "POST", ":path": "/" });
  stream.end(body);
  return textOf(stream);
}
