/** Bytes in pieces of any size come out as they went in, and few pieces are kept. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { largerPieces, Pieces } from "./pieces.ts";

const bytes = Buffer.from(Array.from({ length: 10_000 }, (_, index) => index % 251));

async function* cut(size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

test("pieces of any size are joined; none leave nothing", async () => {
  assert.equal(new Pieces().all.length, 0);
  for (const size of [1, 7, 1_024, 4_000, 20_000]) {
    const pieces = new Pieces();
    for await (const piece of cut(size)) {
      const before = Buffer.from(pieces.all);
      pieces.add(piece);
      assert.ok(pieces.all.subarray(0, before.length).equals(before));
    }
    assert.equal(pieces.length, bytes.length);
    assert.ok(pieces.all.equals(bytes), `${size}`);
  }
});

test("one byte at a time becomes a head, and then pieces of a kilobyte", async () => {
  for (const size of [1, 3, 5_000]) {
    const larger: Uint8Array[] = [];
    for await (const piece of largerPieces(cut(size), 5)) larger.push(Buffer.from(piece));
    assert.ok(Buffer.concat(larger).equals(bytes), `${size}`);
    assert.ok(larger.length <= 11, `${larger.length} pieces`);
    assert.ok(larger[0]!.length >= 5);
  }
});
