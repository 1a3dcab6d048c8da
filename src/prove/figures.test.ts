import assert from "node:assert/strict";
import { test } from "node:test";
import { slopeOf } from "./figures.ts";

const tenPoints = (y: (x: number) => number) => Array.from({ length: 10 }, (_, x) => [x, y(x)] as const);

test("a slope is that of the straight line, and its error is how far the points are from it", () => {
  assert.deepEqual(slopeOf(tenPoints((x) => 3 * x + 7)), { slope: 3, error: 0 });
  assert.deepEqual(slopeOf(tenPoints(() => 5)), { slope: 0, error: 0 });
  // By hand: x spreads by 82.5; y goes up and down by 1, from which the line takes next to nothing.
  const { slope, error } = slopeOf(tenPoints((x) => (x % 2 === 0 ? 1 : -1)));
  assert.ok(Math.abs(slope + 5 / 82.5) < 1e-9, String(slope));
  assert.ok(Math.abs(error - Math.sqrt((10 - 25 / 82.5) / 8 / 82.5)) < 1e-9, String(error));
});

test("too few points, or points above one another, have no slope that meets a goal", () => {
  for (const points of [[], tenPoints((x) => x).slice(6), tenPoints((x) => x).map(([, y]) => [1, y] as const)]) {
    const { slope, error } = slopeOf(points);
    assert.equal(Math.max(0, slope - 2 * error) <= 1, false);
  }
});
