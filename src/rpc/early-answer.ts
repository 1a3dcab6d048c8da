/**
 * Answers that may come before their request is over. What is left of the request is not read: the connection (HTTP/1.1) or
 * the stream (HTTP/2) ends, but only behind the answer. An answer that is known as a whole, such as a refusal, is written in
 * one piece: some clients end a request of known length short as soon as they see headers, for which nghttp2 resets the
 * stream, and whatever of the answer is not written is lost.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerResponse, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { NodeRequest, NodeResponse } from "../listener/listener.ts";
import { fromHeaders } from "./headers.ts";

/** An answer that is known as a whole. */
export interface WholeAnswer {
  status: number;
  header?: Headers;
  body?: Uint8Array;
  trailer?: Headers;
}

/** Between two looks whether a stream's answer is written. */
const LOOK_AGAIN_MS = 5;
/** For a client that still sends over HTTP/1.1 when it is answered. */
const LINGER_MS = 1_000;
const LINGER_BYTES = 256 * 1024;

/** Writes an answer, and sees to the request's end as closeAfterAnswer() does. */
export function answerAtOnce(request: NodeRequest, response: NodeResponse, answer: WholeAnswer, graceMs = 0): void {
  if ("stream" in response) {
    writeHttp2(response, answer);
    endAfterAnswer(response.stream, graceMs);
  } else {
    closeAfterAnswer(request, response);
    writeHttp1(response, answer);
  }
}

function writeHttp1(response: ServerResponse, { status, header, body, trailer }: WholeAnswer): void {
  if (header) response.setHeaders(header);
  response.statusCode = status;
  if (trailer) {
    response.writeHead(status); // while no length is known, so that trailers may follow
    response.addTrailers(Object.fromEntries(trailer));
  }
  response.end(body);
}

function writeHttp2(response: Http2ServerResponse, { status, header, body, trailer }: WholeAnswer): void {
  const { stream } = response;
  if (stream.destroyed) return;
  const headers: OutgoingHttpHeaders = { ...response.getHeaders(), ...fromHeaders(header), ":status": status };
  if (body === undefined || body.length === 0) {
    stream.respond({ ...headers, ...fromHeaders(trailer) }, { endStream: true });
    return;
  }
  stream.respond(headers, { waitForTrailers: trailer !== undefined });
  if (trailer) stream.once("wantTrailers", () => stream.sendTrailers(fromHeaders(trailer)));
  stream.end(body);
}

/**
 * For an answer that is about to be written. A body that was not read to its end when the answer is over will not be.
 * `graceMs` is for a client that has an HTTP/2 stream open and ends its side when it sees the answer.
 */
export function closeAfterAnswer(request: NodeRequest, response: NodeResponse, graceMs = 0): void {
  if ("stream" in request) {
    const { stream } = request;
    // Said when the whole body of the answer is out; "finish" may wait until the client has ended its side.
    stream.once("wantTrailers", () => endAfterAnswer(stream, graceMs));
  } else if (!request.complete) {
    response.setHeader("connection", "close");
    lingerAfterAnswer(request, response as ServerResponse);
  }
}

/**
 * Ends an HTTP/2 stream whose answer was handed to Node, unless its body is read to the end by then. nghttp2 drops what is
 * not written of a stream when it is asked for a reset, and how much is written depends on the socket; so this waits until
 * the frame that ends the answer is.
 */
export function endAfterAnswer(stream: ServerHttp2Stream, graceMs = 0): void {
  const end = () => {
    if (stream.destroyed || stream.readableEnded) return;
    if (stream.state.localClose === 1) stream.destroy();
    else setTimeout(end, LOOK_AGAIN_MS).unref();
  };
  if (graceMs > 0) setTimeout(end, graceMs).unref();
  else setImmediate(end);
}

/**
 * Closing a socket while bytes for it arrive makes the kernel answer with a reset, which may destroy the answer before the
 * client has read it. So only our side is closed, and what arrives is thrown away, for a moment.
 */
function lingerAfterAnswer({ socket }: IncomingMessage, response: ServerResponse): void {
  // Where there is no such method, the HTTP server closes our side of the connection only.
  Object.assign(socket, { destroySoon: undefined });
  response.once("finish", () => {
    const mostBytes = socket.bytesRead + LINGER_BYTES;
    const discard = () => void (socket.bytesRead > mostBytes && socket.destroy());
    const end = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.on("data", discard).once("close", () => clearTimeout(end));
  });
}

/**
 * Calls back when an answer is over, delivered or not. Of HTTP/2 it asks the stream: Node's response does not say so of a HEAD
 * request that was answered past it, as is done here.
 */
export function onceClosed(response: NodeResponse, listener: () => void): void {
  if ("stream" in response) response.stream.once("close", listener);
  else response.once("close", listener);
}
