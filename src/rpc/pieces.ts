/**
 * Bytes that arrive in pieces, joined as they come: a piece that is kept takes some 150 bytes beside what it holds, and a
 * client may send one byte at a time.
 */
const LEAST_BYTES = 1_024;

export class Pieces {
  #bytes: Buffer | undefined;
  #length = 0;
  /** Whether #bytes is ours, with room behind what has come; a first piece is kept as it is. */
  #isOwn = false;

  get length(): number {
    return this.#length;
  }

  add(piece: Uint8Array): void {
    const length = this.#length + piece.byteLength;
    if (!this.#bytes) {
      this.#bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    } else {
      if (!this.#isOwn || length > this.#bytes.length) this.#grow(length);
      this.#bytes.set(piece, this.#length);
    }
    this.#length = length;
  }

  /** All that has come: a view, good until more is added. */
  get all(): Buffer {
    return this.#bytes?.subarray(0, this.#length) ?? Buffer.alloc(0);
  }

  #grow(length: number): void {
    const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#length, LEAST_BYTES));
    larger.set(this.all);
    this.#bytes = larger;
    this.#isOwn = true;
  }
}

/** The same bytes in pieces of some size; the first is passed on as soon as it has `firstBytes`. */
export async function* largerPieces(source: AsyncIterable<Uint8Array>, firstBytes: number): AsyncIterable<Uint8Array> {
  let enough = firstBytes;
  let pieces = new Pieces();
  for await (const piece of source) {
    pieces.add(piece);
    if (pieces.length < enough) continue;
    yield pieces.all;
    pieces = new Pieces();
    enough = LEAST_BYTES;
  }
  if (pieces.length > 0) yield pieces.all;
}
