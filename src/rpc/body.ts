/**
 * The body on its way to Connect: read no longer than the deadline allows, and, where the caller signed a digest of the
 * message, held back until the digest was compared. Size limits are Connect's (`readMaxBytes`), checked while reading.
 */

import { messageDigest } from "../token/service-token.ts";
import { unauthenticated } from "./authenticate.ts";
import type { Call } from "./call.ts";
import { tooLarge } from "./errors.ts";
import { largerPieces, Pieces } from "./pieces.ts";
import { untilAborted } from "./until-aborted.ts";

/** One byte of flags and four of length before each message of gRPC. */
export const FRAME_HEADER_BYTES = 5;

/** Wraps a request's body. `contentEncoding` is that of the whole body (Connect); gRPC compresses inside its frames. */
export async function* guardedBody(
  source: AsyncIterable<Uint8Array>,
  call: Call,
  contentEncoding: string | undefined,
  maxBytes: number,
): AsyncIterable<Uint8Array> {
  if (!call.signal) throw new Error("the body was read before the call was authenticated");
  const chunks = largerPieces(counted(untilAborted(source, call.signal), call), FRAME_HEADER_BYTES);
  if (call.expectedDigest === undefined) {
    yield* chunks;
    return;
  }
  const body = await readAll(chunks, maxBytes);
  const compressed = contentEncoding !== undefined && contentEncoding !== "identity";
  const message = call.protocol === "connect" ? body : messageInFrame(body);
  if (compressed || !message) throw unauthenticated(call, "bad_digest");
  compareDigest(call, message);
  yield body;
}

/** Throws unless the message, uncompressed and without a frame, is the one whose digest the caller has signed. */
export function compareDigest(call: Call, message: Uint8Array): void {
  if (call.expectedDigest !== undefined && messageDigest(message) !== call.expectedDigest) {
    throw unauthenticated(call, "bad_digest");
  }
}

/**
 * The chunks of a request's body. Whoever stops reading must not end the request by it, as leaving the loop over a stream
 * of Node's does: the answer is still to be written.
 */
export function chunksOf(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]() {
      const chunks = body[Symbol.asyncIterator]();
      return { next: () => chunks.next() };
    },
  };
}

/** The same chunks, as long as there is memory for the body that they make up. */
export async function* counted(source: AsyncIterable<Uint8Array>, call: Call): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.byteLength;
    const refusal = call.bodyMemory?.hold(call, bytes);
    if (refusal) throw refusal;
    yield chunk;
  }
}

/** All of a body, unless it is surely too long. */
export async function readAll(source: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer> {
  const pieces = new Pieces();
  for await (const piece of source) {
    pieces.add(piece);
    if (pieces.length > maxBytes + FRAME_HEADER_BYTES) throw tooLarge();
  }
  return pieces.all;
}

/** The message of a single uncompressed gRPC frame; undefined for anything else. */
export function messageInFrame(body: Buffer): Buffer | undefined {
  if (body.length < FRAME_HEADER_BYTES || body[0] !== 0) return undefined;
  if (body.readUInt32BE(1) !== body.length - FRAME_HEADER_BYTES) return undefined;
  return body.subarray(FRAME_HEADER_BYTES);
}
