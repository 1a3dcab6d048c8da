/**
 * Outages: what the answers say of the push service as a whole. The sender pauses for as long as FCM asks, and while nothing goes
 * through, longer each time, so that however much waits, FCM sees one batch a pause. What is refused for good, or for one device,
 * says nothing of that: anybody can register such a device. Operators see counts by result and code, and one line when an outage
 * begins and when it ends; an error, where a person must act.
 */
import { randomInt } from "node:crypto";
import type { Clock } from "../../clock.ts";
import type { Logger } from "../../log.ts";
import type { Gauge } from "../../telemetry/metrics.ts";
import { isPostponed, type Postponed, PUSH_CODES, type PushResult } from "./push-outcome.ts";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_ON_REQUEST_MS = 60_000;

/** About one device, or about iPhones only: others get theirs. */
const OF_SOME_DEVICES = ["messaging/device-message-rate-exceeded", "messaging/third-party-auth-error"];
const WRONG_PROJECT_CODE = "messaging/mismatched-credential";
/** The key, the project or the role is wrong, or the apps belong to another project. */
const FOR_A_PERSON = ["push/credentials-refused", "push/permission-denied", "push/not-found", WRONG_PROJECT_CODE];
const OTHER_CODE = "other";
const RESULTS: PushResult["outcome"][] = ["sent", "unregistered", "rejected", "retry", "unanswered", "untried"];

export class Outages {
  readonly #clock: Clock;
  readonly #log: Logger;
  /** By result, and by code. */
  readonly #counts = new Map<string, number>();
  /** Codes that were told of since everything last went through. */
  #troubles = new Set<string>();
  #failedBatches = 0;
  /** Whether the key is known to be of the apps' project: a process has one key, and a project does not change. */
  #hasSent = false;
  #pausedUntil = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  isPaused(): boolean {
    return this.#clock.monotonic() < this.#pausedUntil;
  }

  /**
   * Takes the answers to pushes that went out together, and returns what they mean. As long as nothing was sent, a device of another
   * project is rather a key of another project, which would make dead letters of all that waits: such pushes count as untried.
   */
  note(answers: PushResult[]): PushResult[] {
    const goesThrough = answers.some(({ outcome }) => outcome === "sent");
    this.#hasSent ||= goesThrough;
    const results = this.#hasSent ? answers : answers.map(untriedIfWrongProject);
    for (const result of results) {
      this.#count(result.outcome);
      if ("code" in result) this.#count(PUSH_CODES.includes(result.code) ? result.code : OTHER_CODE);
    }
    if (results.length > 0) this.#tell(results);
    if (goesThrough) this.#failedBatches = 0;
    const outage = results.filter(isOfService);
    if (outage.length > 0 && (!goesThrough || askedMs(outage) > 0)) {
      this.#pausedUntil = this.#clock.monotonic() + pauseMs(outage, this.#failedBatches);
      if (!goesThrough) this.#failedBatches += 1;
    }
    return results;
  }

  /** All that can be counted, from the beginning: what first appears with its first count has no rate. */
  gauges(): Gauge[] {
    const counterOf = (name: string, help: string, label: string) => (value: string) => ({
      ...{ kind: "counter" as const, name, help, labels: { [label]: value } },
      read: () => this.#counts.get(value) ?? 0,
    });
    return [
      ...RESULTS.map(counterOf("notification_pushes_total", "Pushes to devices, by result", "result")),
      ...[...PUSH_CODES, OTHER_CODE].map(
        counterOf("notification_push_failures_total", "Pushes that were not taken, by code", "code"),
      ),
      {
        name: "notification_push_outage",
        help: "1 while no push goes through",
        read: () => Number(this.#failedBatches > 0),
      },
    ];
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  /** Tells each trouble once, and once that all are over: the log tells an outage, not its every second. */
  #tell(results: PushResult[]): void {
    const codes = new Set(results.flatMap((result) => (isTrouble(result) ? [result.code] : [])));
    const fresh = [...codes].filter((code) => !this.#troubles.has(code));
    const urgent = fresh.filter((code) => FOR_A_PERSON.includes(code));
    if (urgent.length > 0) this.#log.error({ codes: urgent }, "the push service refuses our key, project or apps");
    else if (fresh.length > 0) this.#log.warn({ codes: fresh }, "pushes fail, they will be tried again");
    if (codes.size === 0 && this.#troubles.size > 0) this.#log.info("pushes go through again");
    this.#troubles = codes.size === 0 ? codes : new Set([...this.#troubles, ...codes]);
  }
}

function isTrouble(result: PushResult): result is Exclude<PushResult, { outcome: "sent" | "unregistered" }> {
  return isPostponed(result) || (result.outcome === "rejected" && FOR_A_PERSON.includes(result.code));
}

function isOfService(result: PushResult): result is Postponed {
  return isPostponed(result) && !OF_SOME_DEVICES.includes(result.code);
}

function untriedIfWrongProject(result: PushResult): PushResult {
  const isWrongProject = result.outcome === "rejected" && result.code === WRONG_PROJECT_CODE;
  return isWrongProject ? { outcome: "untried", code: WRONG_PROJECT_CODE } : result;
}

/** How long FCM wants to be left alone; where our share is used up it always counts as asked. */
function askedMs(results: Postponed[]): number {
  return Math.max(...results.map(({ retryAfterSeconds = 0 }) => retryAfterSeconds * 1_000));
}

/** Unless FCM says how long, half of it is chance: senders which failed together do not come back together. */
function pauseMs(results: Postponed[], failedBefore: number): number {
  if (askedMs(results) > 0) return Math.min(askedMs(results), LONGEST_PAUSE_ON_REQUEST_MS);
  const longestMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failedBefore);
  return randomInt(longestMs / 2, longestMs);
}
