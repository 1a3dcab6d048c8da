/**
 * Calls as an attacker would send them: over every protocol, encoding and HTTP version, with header lines and bytes that
 * no decent client can be made to send. Framing is done by hand; each call has a connection of its own (http.ts).
 */
import { gunzipSync } from "node:zlib";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  fromJsonString,
  type MessageInitShape,
  type MessageShape,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { reasonOf } from "../errors.ts";
import {
  type HeaderLine,
  type HttpAnswer,
  type HttpRequest,
  type HttpVersion,
  parseLine,
  sendHttp,
  withOwn,
} from "./http.ts";

/** One way to send a call. */
export interface Wire {
  readonly protocol: "connect" | "grpc" | "grpc-web";
  readonly encoding: "proto" | "json";
  readonly http: HttpVersion;
}

/** Every combination the server answers; gRPC over HTTP/1.1 is one of them (its trailers travel in a chunked body). */
export const allWires: readonly Wire[] = (["connect", "grpc", "grpc-web"] as const).flatMap((protocol) =>
  (["proto", "json"] as const).flatMap((encoding) =>
    (["1.1", "2"] as const).map((http) => ({ protocol, encoding, http })),
  ),
);

/** For example "grpc-web json h2". */
export function wireName({ protocol, encoding, http }: Wire): string {
  return `${protocol} ${encoding} h${http}`;
}

export interface WireRequest<I extends DescMessage, O extends DescMessage> {
  /** Gives the path and the types of the messages. */
  method: DescMethodUnary<I, O>;
  /** Bytes are sent as they are, inside the protocol's frame. An empty message unless told otherwise. */
  message?: MessageInitShape<I> | Uint8Array;
  /** Sent as it is instead of the method's own path, query included. */
  path?: string;
  /** The default is POST. With GET (Connect only) the message travels in the query, unless `path` is given. */
  httpMethod?: string;
  /** Sent after the protocol's own; one of the same name (in any case) takes the place of the protocol's own. */
  headers?: readonly HeaderLine[];
  /** The whole body as it is sent, frames included, instead of `message`. */
  body?: Uint8Array;
  /** First byte of the frame (gRPC and gRPC-Web): 1 says that the message is compressed. */
  frameFlags?: number;
}

export interface WireAnswer<O extends DescMessage> extends HttpAnswer {
  /** Set when the call failed: the code, message and ErrorInfo reason in the protocol's own way of saying them. */
  code?: Code;
  message?: string;
  reason?: string;
  /** Set when the call succeeded. */
  answer?: MessageShape<O>;
}

/** What gRPC, gRPC-Web and Connect streams put before a message: flags, and its length. */
export const FRAME_HEADER_BYTES = 5;
const TRAILER_FLAG = 0x80;

/** The bytes of a message in a wire's encoding, without a frame: what a service token's digest is made of. */
export function encodeMessage<I extends DescMessage>(wire: Wire, desc: I, message: MessageInitShape<I>): Uint8Array {
  const value = create(desc, message);
  return wire.encoding === "proto" ? toBinary(desc, value) : Buffer.from(toJsonString(desc, value));
}

/** A gRPC frame around a message. */
export function frameMessage(message: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

/** Makes one call and decodes its answer. Rejects when there was no answer: the stream or the connection was cut. */
export async function callWire<I extends DescMessage, O extends DescMessage>(
  wire: Wire,
  baseUrl: string,
  request: WireRequest<I, O>,
): Promise<WireAnswer<O>> {
  return decode(wire, request.method, await sendHttp(wire.http, baseUrl, httpRequestOf(wire, request)));
}

/** A call as the HTTP request that carries it. */
export function httpRequestOf<I extends DescMessage, O extends DescMessage>(
  wire: Wire,
  request: WireRequest<I, O>,
): HttpRequest {
  const { method, httpMethod = "POST" } = request;
  const message = bytesOf(wire, request);
  const isGet = httpMethod === "GET";
  const ownPath = `/${method.parent.typeName}/${method.name}${isGet ? queryOf(wire, message) : ""}`;
  const framed = wire.protocol === "connect" ? message : frameMessage(message, request.frameFlags);
  return {
    httpMethod,
    path: request.path ?? ownPath,
    headers: withOwn(isGet ? [] : protocolHeaders(wire), request.headers ?? []),
    body: request.body ?? (isGet ? undefined : framed),
  };
}

function protocolHeaders({ protocol, encoding }: Wire): HeaderLine[] {
  switch (protocol) {
    case "connect":
      return [
        ["content-type", `application/${encoding}`],
        ["connect-protocol-version", "1"],
      ];
    case "grpc":
      return [
        ["content-type", `application/grpc+${encoding}`],
        ["te", "trailers"],
      ];
    case "grpc-web":
      return [["content-type", `application/grpc-web+${encoding}`]];
  }
}

function bytesOf<I extends DescMessage, O extends DescMessage>(wire: Wire, request: WireRequest<I, O>): Uint8Array {
  const { message = {}, method } = request;
  if (message instanceof Uint8Array) return message;
  return encodeMessage(wire, method.input, message as MessageInitShape<I>);
}

function queryOf({ encoding }: Wire, message: Uint8Array): string {
  return `?connect=v1&encoding=${encoding}&base64=1&message=${Buffer.from(message).toString("base64url")}`;
}

function decode<I extends DescMessage, O extends DescMessage>(
  wire: Wire,
  { output }: DescMethodUnary<I, O>,
  http: HttpAnswer,
): WireAnswer<O> {
  const { message, trailers } =
    wire.protocol === "connect" ? { message: http.body, trailers: [] } : takeFramesApart(http);
  const error = wire.protocol === "connect" ? connectError(http) : grpcError(http, trailers);
  if (error) return { ...http, code: error.code, message: error.rawMessage, reason: reasonOf(error) };
  const answer =
    wire.encoding === "proto" ? fromBinary(output, message) : fromJsonString(output, message.toString("utf8"));
  return { ...http, answer };
}

function connectError({ status, headers, body }: HttpAnswer): ConnectError | undefined {
  if (status === 200) return undefined;
  const unnamed = new ConnectError(`HTTP status ${status}`, Code.Unknown);
  const isCompressed = headers.some(([name, value]) => name === "content-encoding" && value === "gzip");
  try {
    return errorFromJsonBytes(isCompressed ? gunzipSync(body) : body, undefined, unnamed);
  } catch {
    return unnamed;
  }
}

/** The status is in the trailers, or, where nothing but a status was sent, in the headers. */
function grpcError({ status, headers }: HttpAnswer, trailers: readonly HeaderLine[]): ConnectError | undefined {
  const found = [trailers, headers].find((lines) => lines.some(([name]) => name === "grpc-status"));
  if (!found) return new ConnectError(`HTTP status ${status} without a gRPC status`, Code.Unknown);
  return findTrailerError(new Headers(found.map(([name, value]) => [name, value])));
}

/** The message of a gRPC or gRPC-Web body, and the trailers: after the body, or in gRPC-Web's last frame. */
export function takeFramesApart({ body, trailers }: HttpAnswer): { message: Buffer; trailers: readonly HeaderLine[] } {
  let message = Buffer.alloc(0);
  let found: readonly HeaderLine[] = trailers;
  for (let at = 0; at + FRAME_HEADER_BYTES <= body.length; ) {
    const end = at + FRAME_HEADER_BYTES + body.readUInt32BE(at + 1);
    const content = body.subarray(at + FRAME_HEADER_BYTES, end);
    if ((body[at]! & TRAILER_FLAG) === 0) message = Buffer.from(content);
    else found = content.toString("latin1").split("\r\n").filter(Boolean).map(parseLine);
    at = end;
  }
  return { message, trailers: found };
}
