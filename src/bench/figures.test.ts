import assert from "node:assert/strict";
import { test } from "node:test";
import { goalLine, median, quantile } from "./figures.ts";

test("the median lies in the middle, whatever the order and the number of values", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([7]), 7);
  assert.equal(median([]), 0);
});

test("a quantile is the value below which that share lies", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 99 - index);
  assert.equal(quantile(hundred, 0), 0);
  assert.equal(quantile(hundred, 0.99), 99);
  assert.equal(quantile(hundred, 1), 99);
  assert.equal(quantile(hundred, 0.5), 50);
});

test("a goal is reached on the right side of its bound, and at the bound", () => {
  const line = (ratio: number, better: "lower" | "higher") =>
    goalLine("P1", { what: "cpu/x", ratio, bound: 1, better });
  assert.equal(line(0.9, "lower"), "goal P1 cpu/x ratio=0.9 bound=1 ok");
  assert.match(line(1, "lower"), / ok$/);
  assert.match(line(1.1, "lower"), / short$/);
  assert.match(line(1.1, "higher"), / ok$/);
  assert.match(line(1, "higher"), / ok$/);
  assert.match(line(0.9, "higher"), / short$/);
  assert.match(line(Number.NaN, "lower"), / short$/);
  const value = goalLine("edge", { what: "longest ms", value: 30_000.0004, bound: 30_000, better: "lower" });
  assert.equal(value, "goal edge longest ms value=30000 bound=30000 short");
});
