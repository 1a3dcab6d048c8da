/**
 * The message of a unary call, read from an HTTP/2 stream: no further than its size allows, compared with the digest that its
 * caller may have signed, and decoded. What is wrong with a body is said as the long way through Connect says it.
 */
import type http2 from "node:http2";
import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import {
  createAsyncIterable,
  pipe,
  transformDecompressEnvelope,
  transformSplitEnvelope,
} from "@connectrpc/connect/protocol";
import { unauthenticated } from "./authenticate.ts";
import { compareDigest, FRAME_HEADER_BYTES, messageInFrame } from "./body.ts";
import type { Call } from "./call.ts";
import { malformed, namePublic, tooLarge, unimplemented } from "./errors.ts";
import { Pieces } from "./pieces.ts";

/** Reads it; never settles when the stream ends before the body does. Throws what the client may see. */
export async function readMessage(
  stream: http2.ServerHttp2Stream,
  call: Call,
  schema: DescMessage,
  maxBytes: number,
): Promise<Message> {
  const body = await readBody(stream, call, maxBytes);
  const bytes = call.protocol === "grpc" ? messageInFrame(body) : body;
  if (!bytes) return readOddBody(body, call, schema, maxBytes);
  compareDigest(call, bytes);
  return decode(schema, bytes);
}

/** The body, to its end or to where it is surely too long. */
function readBody(stream: http2.ServerHttp2Stream, call: Call, maxBytes: number): Promise<Buffer> {
  // Node says the end of an empty body without being asked to read, so it may be past.
  if (stream.readableEnded || stream.endAfterHeaders) return Promise.resolve(Buffer.alloc(0));
  return new Promise((resolve, reject) => {
    const pieces = new Pieces();
    stream.on("data", (piece: Buffer) => {
      pieces.add(piece);
      const tooMuch = isTooLong(pieces.all, maxBytes, call) ? tooLarge() : call.bodyMemory?.hold(call, pieces.length);
      if (!tooMuch) return;
      stream.removeAllListeners("data").pause();
      reject(tooMuch);
    });
    stream.once("end", () => resolve(pieces.all));
  });
}

/** Whether a body that has begun to arrive needs no more of it to be refused. */
function isTooLong(begun: Buffer, maxBytes: number, { protocol, expectedDigest }: Call): boolean {
  const { length } = begun;
  if (protocol !== "grpc") return length > maxBytes;
  // Where a digest was signed, nothing in the body is believed before it was compared.
  if (expectedDigest !== undefined) return length > maxBytes + FRAME_HEADER_BYTES;
  if (length < FRAME_HEADER_BYTES) return false;
  // What follows the first frame is one message too many, but it is read to its end before that is said.
  return begun.readUInt32BE(1) > maxBytes || length > 2 * (maxBytes + FRAME_HEADER_BYTES);
}

/** A body that is not one plain frame: Connect's own reading says what is wrong with it. */
async function readOddBody(body: Buffer, call: Call, schema: DescMessage, maxBytes: number): Promise<Message> {
  if (call.expectedDigest !== undefined) throw unauthenticated(call, "bad_digest");
  const frames = pipe(
    createAsyncIterable([body]),
    transformSplitEnvelope(maxBytes),
    transformDecompressEnvelope(null, maxBytes),
  );
  let message: Message | undefined;
  try {
    for await (const { data } of frames) {
      const next = decode(schema, data);
      if (message) throw unimplemented();
      message = next;
    }
  } catch (thrown) {
    throw namePublic(ConnectError.from(thrown));
  }
  if (!message) throw unimplemented();
  return message;
}

function decode(schema: DescMessage, bytes: Uint8Array): Message {
  try {
    return fromBinary(schema, bytes);
  } catch {
    throw malformed();
  }
}
