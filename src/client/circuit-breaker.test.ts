/** The breaker beside a model of a few lines, over random sequences of calls that overlap, and what it tells of itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import { Random } from "../testing/seeded.ts";
import { type BreakerState, CircuitBreaker, type Verdict } from "./circuit-breaker.ts";

const SEEDS = 200;
const STEPS = 300;
const FAILURES = 5;
const OPEN_MS = 30_000;
const LINES = { open: "calls are refused", "half-open": "one call is tried", closed: "answers again" };

/** A breaker whose calls end when and as the test says, and the states that it has told its log. */
function startBreaker() {
  const clock = createTestClock();
  const lines: string[] = [];
  const note = (...parts: unknown[]) => void lines.push(String(parts.at(-1)));
  const log = { info: note, warn: note, error: note };
  const breaker = new CircuitBreaker({ name: "auth", failures: FAILURES, openMs: OPEN_MS, clock, log });
  /** Begins a call; undefined if it is refused. */
  async function begin() {
    const end = Promise.withResolvers<Verdict>();
    const made = Promise.withResolvers<boolean>();
    const call = async () => {
      made.resolve(true);
      const verdict = await end.promise;
      if (verdict !== "answered") throw verdict;
      return verdict;
    };
    const settled = breaker
      .run(call, (outcome) => (outcome.status === "fulfilled" ? "answered" : outcome.reason))
      .catch((error) => (error instanceof ConnectError ? made.resolve(false) : error));
    if (!(await made.promise)) return undefined;
    return async (verdict: Verdict) => {
      end.resolve(verdict);
      assert.equal(await settled, verdict);
    };
  }
  return { breaker, clock, lines, begin };
}

/** What a breaker should do, in the fewest words. */
class Model {
  state: BreakerState = "closed";
  readonly history: BreakerState[] = [];
  #failures = 0;
  #openUntilMs = 0;

  #become(state: BreakerState, openUntilMs = 0) {
    this.state = state;
    this.history.push(state);
    this.#failures = 0;
    this.#openUntilMs = openUntilMs;
  }

  /** The age of the call that begins; undefined if it is refused. */
  begin(nowMs: number): number | undefined {
    if (this.state === "half-open" || (this.state === "open" && nowMs < this.#openUntilMs)) return undefined;
    if (this.state === "open") this.#become("half-open");
    return this.history.length;
  }

  end(age: number, verdict: Verdict, nowMs: number): void {
    if (age !== this.history.length) return; // it began before the last change
    if (this.state === "half-open") {
      if (verdict === "answered") this.#become("closed");
      else this.#become("open", nowMs + (verdict === "failed" ? OPEN_MS : 0));
    } else if (verdict === "answered") this.#failures = 0;
    else if (verdict === "failed" && ++this.#failures === FAILURES) this.#become("open", nowMs + OPEN_MS);
  }
}

/** Plays one random sequence against the model; returns the states that were passed. */
async function compare(seed: number): Promise<BreakerState[]> {
  const random = new Random(seed);
  const { breaker, clock, lines, begin } = startBreaker();
  const model = new Model();
  const live: { age: number; end: (verdict: Verdict) => Promise<void> }[] = [];
  for (let step = 0; step < STEPS; step++) {
    const where = `seed ${seed}, step ${step}`;
    const now = clock.monotonic();
    if (random.oneIn(8)) clock.advance(random.pick([1, OPEN_MS / 2, OPEN_MS - 1, OPEN_MS]));
    else if (live.length > 0 && random.oneIn(2)) {
      const [call] = live.splice(random.below(live.length), 1);
      const verdict = random.pick<Verdict>(["answered", "failed", "failed", "failed", "failed", "failed", "nothing"]);
      model.end(call!.age, verdict, now);
      await call!.end(verdict);
    } else {
      const age = model.begin(now);
      const end = await begin();
      assert.equal(end === undefined, age === undefined, `${where}: refused`);
      if (end && age !== undefined) live.push({ age, end });
    }
    assert.equal(breaker.state, model.state, where);
    assert.equal(lines.length, model.history.length, `${where}: a line for each change`);
  }
  for (const { end } of live) await end("answered");
  for (const [index, state] of model.history.entries()) assert.ok(lines[index]!.includes(LINES[state]));
  return model.history;
}

test(`R-SDK-01 the breaker does as its model, over ${SEEDS} seeds`, async () => {
  const counts = { closed: 0, open: 0, "half-open": 0 };
  for (let seed = 0; seed < SEEDS; seed++) for (const state of await compare(seed)) counts[state]++;
  assert.ok(
    Object.values(counts).every((count) => count > SEEDS),
    inspect(counts),
  );
});

test("R-SDK-01 an open breaker refuses in less than a millisecond, with when to come again and without a line", async () => {
  const { breaker, clock, lines, begin } = startBreaker();
  for (let failure = 0; failure < FAILURES; failure++) await (await begin())!("failed");
  assert.deepEqual([breaker.state, lines.length], ["open", 1]);
  clock.advance(OPEN_MS - 1_500);
  const tookMs: number[] = [];
  for (let call = 0; call < 1_000; call++) {
    const startedAt = performance.now();
    const error = await breaker
      .run(
        () => assert.fail("it was called"),
        () => "answered",
      )
      .catch((thrown) => thrown);
    tookMs.push(performance.now() - startedAt);
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([error.code, reasonOf(error)], [Code.Unavailable, "CIRCUIT_OPEN"]);
    const [info] = error.findDetails(RetryInfoSchema);
    assert.deepEqual([info?.retryDelay?.seconds, info?.retryDelay?.nanos], [1n, 500_000_000]);
  }
  assert.ok(tookMs.sort((a, b) => a - b)[900]! < 1, `${tookMs[900]} ms`);
  assert.equal(lines.length, 1);
});

test("R-SDK-01 of many calls that come when the time is over, one is the probe and the others are refused", async () => {
  const { breaker, clock, begin } = startBreaker();
  for (let failure = 0; failure < FAILURES; failure++) await (await begin())!("failed");
  clock.advance(OPEN_MS);
  const [probe, ...others] = await Promise.all(Array.from({ length: 100 }, begin));
  assert.equal(breaker.state, "half-open");
  assert.ok(others.every((end) => end === undefined));
  await probe!("answered");
  assert.equal(breaker.state, "closed");
});

test("R-SDK-01 a probe whose caller leaves decides nothing: the next call is the probe", async () => {
  const { breaker, clock, begin } = startBreaker();
  for (let failure = 0; failure < FAILURES; failure++) await (await begin())!("failed");
  clock.advance(OPEN_MS);
  await (await begin())!("nothing");
  assert.equal(breaker.state, "open");
  await (await begin())!("failed");
  assert.equal(await begin(), undefined);
});

test("a wall clock that is set back keeps no breaker open", async (context) => {
  const { breaker, clock, begin } = startBreaker();
  for (let failure = 0; failure < FAILURES; failure++) await (await begin())!("failed");
  const hourAgo = Date.now() - 3_600_000;
  context.mock.method(Date, "now", () => hourAgo);
  clock.advance(OPEN_MS);
  await (await begin())!("answered");
  assert.equal(breaker.state, "closed");
});

test("S-SDK-09 an error that a call ended with is told as it is, and a breaker shows nothing of it", async () => {
  const { breaker } = startBreaker();
  const secret = fail(Code.Unavailable, "UNAVAILABLE", "eyJhbGciOi");
  const ended = breaker.run(
    () => Promise.reject(secret),
    () => "failed",
  );
  await assert.rejects(ended, (error) => error === secret);
  assert.ok(!inspect(breaker, { depth: 9, showHidden: true }).includes("eyJ"));
  assert.equal(JSON.stringify(breaker), "{}");
});
