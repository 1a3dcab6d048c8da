/**
 * The processes of `make prove/feed`: four of the service and two of its follower, which are killed and stopped, and started
 * again at once. What is done to one process is done one after another; what is done to several overlaps.
 */
import { join } from "node:path";
import type { FailpointName } from "../failpoints.ts";
import type { Random } from "../testing/seeded.ts";
import type { ServiceOptions } from "./feed-service.ts";
import { Member } from "./members.ts";
import { startWorker, type Worker } from "./workers.ts";

export type Kind = "service" | "follower";

/** Places that a process of each kind comes by. */
export const FAILPOINTS: Record<Kind, readonly FailpointName[]> = {
  service: ["emit.after_insert", "feed.before_stamp", "feed.after_stamp"],
  follower: ["follower.before_commit", "follower.after_commit"],
};

const SERVICES = 4;
const FOLLOWERS = 2;
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
  readonly members: readonly Member<Kind>[];
  readonly #options: FleetOptions;
  #maxPauseMs = MIN_PAUSE_MS * 2;

  constructor(options: FleetOptions) {
    this.#options = options;
    const kinds: Kind[] = [...Array(SERVICES).fill("service"), ...Array(FOLLOWERS).fill("follower")];
    this.members = kinds.map((kind, slot) => new Member(kind, slot, (member) => this.#start(member)));
  }

  of(kind: Kind): Member<Kind>[] {
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

  async #start(member: Member<Kind>): Promise<Worker> {
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

/** A failpoint of this kind of process, or none. */
export function pickFailpoint(random: Random, kind: Kind): FailpointName | undefined {
  return random.oneIn(3) ? undefined : random.pick(FAILPOINTS[kind]);
}
