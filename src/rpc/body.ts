/**
 * The body on its way to Connect: read no longer than the deadline allows, and, where the caller signed a digest of the
 * message, held back until the digest was compared. Size limits are Connect's (`readMaxBytes`), checked while reading.
 */

import { Code, fail } from "../errors.ts";
import { messageDigest } from "../token/service-token.ts";
import { unauthenticated } from "./authenticate.ts";
import type { Call } from "./call.ts";

const FRAME_HEADER_BYTES = 5;

/** Wraps a request's body. `contentEncoding` is that of the whole body (Connect); gRPC compresses inside its frames. */
export async function* guardedBody(
  source: AsyncIterable<Uint8Array>,
  call: Call,
  contentEncoding: string | undefined,
  maxBytes: number,
): AsyncIterable<Uint8Array> {
  if (call.expectedDigest === undefined) {
    yield* untilAborted(source, call.signal);
    return;
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of untilAborted(source, call.signal)) {
    length += chunk.byteLength;
    if (length > maxBytes + FRAME_HEADER_BYTES) {
      throw fail(Code.ResourceExhausted, "MESSAGE_TOO_LARGE", `the message is larger than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks, length);
  const compressed = contentEncoding !== undefined && contentEncoding !== "identity";
  const message = call.protocol === "connect" ? body : messageInFrame(body);
  if (compressed || !message || messageDigest(message) !== call.expectedDigest)
    throw unauthenticated(call, "bad_digest");
  yield body;
}

/** The message of a single uncompressed gRPC frame; undefined for anything else. */
function messageInFrame(body: Buffer): Buffer | undefined {
  if (body.length < FRAME_HEADER_BYTES || body[0] !== 0) return undefined;
  if (body.readUInt32BE(1) !== body.length - FRAME_HEADER_BYTES) return undefined;
  return body.subarray(FRAME_HEADER_BYTES);
}

/** Passes chunks on until the signal aborts; then throws its reason, even if the next chunk never comes. */
async function* untilAborted(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  if (!signal) throw new Error("the body was read before the call was authenticated");
  const iterator = source[Symbol.asyncIterator]();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const result = await Promise.race([iterator.next(), aborted]);
      if (result.done) return;
      yield result.value;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
