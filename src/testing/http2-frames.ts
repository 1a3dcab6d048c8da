/**
 * HTTP/2 as bytes (RFC 9113): frames as an attacker or a load generator writes them, and a reader that takes a server's
 * bytes apart without copying. Header blocks are written as literals without an index or Huffman coding, so the same bytes are
 * right at any moment of any connection; header blocks that come back are not decoded.
 */
import type { HeaderLine } from "./http.ts";

/** What a client says first; SETTINGS must follow. */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  resetStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** END_STREAM and ACK share a bit: the first belongs to DATA and HEADERS, the second to SETTINGS and PING. */
export const FrameFlag = { endStream: 1, ack: 1, endHeaders: 4 } as const;

const FRAME_HEADER_BYTES = 9;
const EMPTY = Buffer.alloc(0);

/** One frame. Nothing is checked: wrong ones are wanted, too. */
export function http2Frame(type: number, flags: number, streamId: number, payload: Uint8Array = EMPTY): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.byteLength);
  bytes.writeUIntBE(payload.byteLength, 0, 3);
  bytes.writeUInt8(type, 3);
  bytes.writeUInt8(flags, 4);
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
}

/** The preface, empty SETTINGS, and a connection window that an answer of any length fits in. */
export function clientOpening(): Buffer {
  return Buffer.concat([PREFACE, http2Frame(FrameType.settings, 0, 0), windowUpdate(0, 0x7fff_ffff - 65_535)]);
}

export const settingsAck = http2Frame(FrameType.settings, FrameFlag.ack, 0);

export function windowUpdate(streamId: number, increment: number): Buffer {
  return http2Frame(FrameType.windowUpdate, 0, streamId, uint32(increment));
}

export function resetStream(streamId: number, errorCode: number): Buffer {
  return http2Frame(FrameType.resetStream, 0, streamId, uint32(errorCode));
}

/** A header block. Names must be in lower case, pseudo-headers first. */
export function headerBlock(lines: readonly HeaderLine[]): Buffer {
  return Buffer.concat(lines.flatMap(([name, value]) => [Buffer.of(0), literal(name), literal(value)]));
}

/** The header block of a POST. */
export function postBlock(authority: string, path: string, lines: readonly HeaderLine[]): Buffer {
  const pseudo = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", authority],
  ] as const;
  return headerBlock([...pseudo, ...lines]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

/** Length as an integer with a prefix of seven bits (RFC 7541, 5.1), then the text. */
function literal(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  const length: number[] = [];
  if (bytes.length < 0x7f) length.push(bytes.length);
  else {
    length.push(0x7f);
    let rest = bytes.length - 0x7f;
    for (; rest >= 0x80; rest >>>= 7) length.push((rest & 0x7f) | 0x80);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** Told of each frame. The payload is bytes[start, end), good only until it returns. */
export type OnFrame = (
  type: number,
  flags: number,
  streamId: number,
  bytes: Buffer,
  start: number,
  end: number,
) => void;

/** Takes frames apart as they arrive, in chunks of any size. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  #rest: Buffer = EMPTY;

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const start = at + FRAME_HEADER_BYTES;
      const end = start + ((bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!);
      if (end > bytes.length) break;
      const streamId = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
      this.#onFrame(bytes[at + 3]!, bytes[at + 4]!, streamId, bytes, start, end);
      at = end;
    }
    this.#rest = at === bytes.length ? EMPTY : bytes.subarray(at);
  }
}
