/**
 * Random bytes from the operating system, fetched for hundreds of ids at once: asking for sixteen of them at every call takes
 * 2.4 us, taking them from a stock 0.2 us. For ids, not for secrets.
 */
import { randomFillSync } from "node:crypto";

const STOCK_BYTES = 8192;
const stock = Buffer.alloc(STOCK_BYTES);
let used = STOCK_BYTES;

/** At most 8,192 bytes, good until the next call: a view, not a copy. */
export function randomBytes(count: number): Buffer {
  if (used + count > STOCK_BYTES) {
    randomFillSync(stock);
    used = 0;
  }
  used += count;
  return stock.subarray(used - count, used);
}
