/**
 * The processes of `make prove/feed`: four of the service and two of its follower, which are killed and stopped, and started
 * again at once. What is done to one process is done one after another; what is done to several overlaps.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { FailpointName } from "../failpoints.ts";
import type { Random } from "../testing/seeded.ts";
import { until } from "../testing/until.ts";
import { commonMs } from "./feed-fate.ts";
import type { ServiceOptions } from "./feed-service.ts";
import { startWorker, type Worker } from "./workers.ts";

export type Kind = "service" | "follower";

/** Places that a process of each kind comes by. */
export const FAILPOINTS: Record<Kind, readonly FailpointName[]> = {
  service: ["emit.after_insert", "feed.before_stamp", "feed.after_stamp"],
  follower: ["follower.before_commit", "follower.after_commit"],
};

const SERVICES = 4;
const FOLLOWERS = 2;
/** The longest that it may take until a process comes by a failpoint. */
const PATIENCE_MS = 5_000;
const MARGIN_MS = 1_000;

/** Pauses of the writers, and by how many events the followers may be behind. */
const MIN_PAUSE_MS = 500;
const MAX_PAUSE_MS = 16_000;
const FEW_BEHIND = 500;
const MANY_BEHIND = 2_000;

export interface FleetOptions {
  seed: number;
  sourceUrl: string;
  targetUrl: string;
  /** For the journals and what the processes print. */
  folder: string;
  maxLateMs: number;
  /** Told whenever a process of the service is somewhere new. */
  onServers(urls: string[]): void;
}

/** All processes, by number: those of the service first. */
export class Fleet implements AsyncDisposable {
  readonly members: readonly Member[];
  readonly #options: FleetOptions;
  #maxPauseMs = MIN_PAUSE_MS * 2;

  constructor(options: FleetOptions) {
    this.#options = options;
    const kinds: Kind[] = [...Array(SERVICES).fill("service"), ...Array(FOLLOWERS).fill("follower")];
    this.members = kinds.map((kind, slot) => new Member(kind, slot, (member) => this.#start(member)));
  }

  of(kind: Kind): Member[] {
    return this.members.filter((member) => member.kind === kind);
  }

  async start(): Promise<void> {
    await Promise.all(this.of("service").map((member) => member.start()));
    await Promise.all(this.of("follower").map((member) => member.start()));
  }

  /** Resolves when nothing is being done to any process, and all of them run. */
  async settled(): Promise<void> {
    await Promise.all(this.members.map((member) => member.do(() => Promise.resolve())));
  }

  /** Lets the writers be as fast as the followers are, which are so many events behind. */
  pace(behind: number): void {
    const factor = behind > MANY_BEHIND ? 2 : behind < FEW_BEHIND ? 0.5 : 1;
    this.#maxPauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, this.#maxPauseMs * factor));
    // One that is down just now is told when it starts.
    for (const { worker } of this.of("service")) worker?.call("pace", { maxPauseMs: this.#maxPauseMs }).catch(() => {});
  }

  async stopWriting(): Promise<void> {
    await Promise.all(this.of("service").map(({ worker }) => worker!.call("stopWriting")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.members.map((member) => member[Symbol.asyncDispose]()));
  }

  async #start(member: Member): Promise<Worker> {
    const { seed, sourceUrl, targetUrl, folder, maxLateMs, onServers } = this.#options;
    const { kind, slot, life } = member;
    const output = join(folder, `${kind}-${slot}.log`);
    const worker = startWorker(`feed-${kind}`, { outputFile: output });
    if (kind === "follower") {
      await worker.call("start", { databaseUrl: targetUrl, urls: this.#urls() });
      return worker;
    }
    const journalFile = join(folder, `journal-${slot}`);
    const pace = { maxLateMs, maxPauseMs: this.#maxPauseMs };
    const options: ServiceOptions = { databaseUrl: sourceUrl, seed, slot, life, journalFile, ...pace };
    member.url = await worker.call<string>("start", options);
    onServers(this.#urls());
    for (const { worker: other } of this.of("follower")) other?.call("servers", { urls: this.#urls() }).catch(() => {});
    return worker;
  }

  #urls(): string[] {
    return this.members.flatMap(({ url }) => url ?? []);
  }
}

/** One place for a process, in which one life follows another. */
class Member implements AsyncDisposable {
  readonly kind: Kind;
  readonly slot: number;
  life = 0;
  worker: Worker | undefined;
  url: string | undefined;
  /** How often it has ended without having been told to. */
  endedByItself = 0;
  readonly #startWorker: (member: Member) => Promise<Worker>;
  #busy: Promise<unknown> = Promise.resolve();
  #ended = Promise.resolve();
  #isDoomed = false;

  constructor(kind: Kind, slot: number, startOne: (member: Member) => Promise<Worker>) {
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

export type { Member };

/** A failpoint of this kind of process, or none. */
export function pickFailpoint(random: Random, kind: Kind): FailpointName | undefined {
  return random.oneIn(3) ? undefined : random.pick(FAILPOINTS[kind]);
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
