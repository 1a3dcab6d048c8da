/**
 * Places for processes that a proof kills and stops: in each, one life follows another. What is done to one process is done one
 * after another; what is done to several overlaps.
 */
import { readFileSync } from "node:fs";
import type { FailpointName } from "../failpoints.ts";
import { until } from "../testing/until.ts";
import { commonMs } from "./fate.ts";
import type { Worker } from "./workers.ts";

/** The longest that it may take until a process comes by a failpoint. */
const PATIENCE_MS = 5_000;
const MARGIN_MS = 1_000;

/** One place for a process, in which one life follows another. */
export class Member<Kind extends string> implements AsyncDisposable {
  readonly kind: Kind;
  readonly slot: number;
  life = 0;
  worker: Worker | undefined;
  url: string | undefined;
  /** How often it has ended without having been told to. */
  endedByItself = 0;
  /** When its last life was seen to have ended, in milliseconds since 1970; not set before. */
  endedAtMs: number | undefined;
  readonly #startWorker: (member: Member<Kind>) => Promise<Worker>;
  #busy: Promise<unknown> = Promise.resolve();
  #ended = Promise.resolve();
  #isDoomed = false;

  constructor(kind: Kind, slot: number, startOne: (member: Member<Kind>) => Promise<Worker>) {
    this.kind = kind;
    this.slot = slot;
    this.#startWorker = startOne;
  }

  /** Does something to the process once nothing else is being done to it. */
  do<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#busy.then(work);
    this.#busy = done.catch(() => {});
    return done;
  }

  async start(): Promise<void> {
    const worker = await this.#startWorker(this);
    this.worker = worker;
    this.#isDoomed = false;
    this.#ended = worker.call("live").then(
      () => {},
      () => {
        this.endedAtMs = Date.now();
        if (!this.#isDoomed) this.endedByItself++;
      },
    );
  }

  /** Kills it, at a failpoint or as it is, and starts it again. Returns whether the failpoint was reached. */
  async kill(failpoint: FailpointName | undefined): Promise<boolean> {
    const worker = this.worker!;
    this.#isDoomed = true;
    let isReached = false;
    if (failpoint !== undefined) {
      // The answer may be lost with the process.
      await worker.call("dieAt", { failpoint }).catch(() => {});
      isReached = await endsWithin(this.#ended, PATIENCE_MS);
    }
    await worker[Symbol.asyncDispose]();
    this.life++;
    await this.start();
    return isReached;
  }

  /** Stops it for a while: in the call after a failpoint, or wherever it is if it comes by none. `during` runs while it stands. */
  async stopFor(failpoint: FailpointName | undefined, during: () => Promise<void>): Promise<void> {
    const { pid } = this.worker!;
    const stands = () => stateOf(pid) === "T";
    if (failpoint !== undefined) {
      await this.worker!.call("stopAt", { failpoint, beforeMs: commonMs() + PATIENCE_MS - MARGIN_MS });
      await until("the process stands", stands, PATIENCE_MS).catch(() => {});
    }
    process.kill(pid, "SIGSTOP");
    await until("the process stands", stands);
    await during();
    process.kill(pid, "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#busy;
    this.#isDoomed = true;
    await this.worker?.[Symbol.asyncDispose]();
  }
}

async function endsWithin(ended: Promise<void>, ms: number): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), ms);
  const result = await Promise.race([ended.then(() => true), late.promise]);
  clearTimeout(timer);
  return result;
}

/** One letter, as Linux says it. */
function stateOf(pid: number): string {
  return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]![0]!;
}
