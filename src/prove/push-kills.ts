/**
 * Kills of senders, and what these held when they died: under 200 notifications a second, at each place where a sender may be
 * killed, and at random, together with processes of notification.
 */
import { setTimeout as delay } from "node:timers/promises";
import { quantile } from "../bench/figures.ts";
import type { FailpointName } from "../failpoints.ts";
import type { Random } from "../testing/seeded.ts";
import type { Goals } from "./figures.ts";
import { type Accepted, type Pushes, pushOf } from "./push-checks.ts";
import type { PushMember, PushSetting } from "./push-setting.ts";

/** Where a sender is killed; only after a push it may have done what it did not tell. */
const FAILPOINTS = [
  "sender.after_claim",
  "sender.before_push",
  "sender.after_push",
  "sender.after_mark",
] as const satisfies readonly FailpointName[];
const MAY_REPEAT: FailpointName = "sender.after_push";

const MAX_BETWEEN_MS = 1_500;
/** One kill in so many is of notification. */
const NOTIFICATIONS = 10;

interface Kill {
  failpoint: FailpointName | undefined;
  atMs: number;
}

export class Kills {
  readonly #all: Kill[] = [];
  readonly #setting: PushSetting;
  /** When the holder of a push died, by push and by the lease under which it was held. */
  readonly #orphans = new Map<string, { leaseToken: string; sinceMs: number }>();

  constructor(setting: PushSetting) {
    this.#setting = setting;
  }

  /** One after another, so that what is pushed twice after a kill is its own. */
  async atFailpoints(each: number, goals: Goals): Promise<void> {
    const { senders } = this.#setting;
    for (const failpoint of FAILPOINTS) {
      let reached = 0;
      for (let cycle = 0; cycle < each; cycle++) {
        if (await this.#kill(senders[cycle % senders.length]!, failpoint)) reached++;
      }
      goals.atLeast(`kills at ${failpoint}`, reached, each);
    }
  }

  /** Some of them at once. */
  async atRandom(count: number, random: Random): Promise<void> {
    const { senders, notifications } = this.#setting;
    const killing: Promise<boolean>[] = [];
    for (let cycle = 0; cycle < count; cycle++) {
      const victim = random.pick(random.oneIn(NOTIFICATIONS) ? notifications : senders);
      // Until it is up again, if it is down.
      await victim.do(() => Promise.resolve());
      killing.push(victim.do(() => this.#kill(victim, undefined)));
      await delay(random.below(MAX_BETWEEN_MS));
    }
    await Promise.all(killing);
  }

  async #kill(victim: PushMember, failpoint: FailpointName | undefined): Promise<boolean> {
    const isReached = await victim.kill(failpoint);
    const atMs = victim.endedAtMs!;
    this.#all.push({ failpoint, atMs });
    if (victim.kind === "sender") await this.#noteOrphans(atMs);
    return isReached;
  }

  /** What is under a lease still: the dead sender's, and what others have, who are soon done with it. */
  async #noteOrphans(sinceMs: number): Promise<void> {
    const rows = await this.#setting.sql<{ id: string; userId: string; leaseToken: string }[]>`
      select notification_id as id, user_id as "userId", lease_token as "leaseToken" from deliveries
      where lease_token is not null and available_at > concierge_now()`;
    for (const { id, userId, leaseToken } of rows) {
      const push = pushOf(id, userId);
      // The one that had it before, if somebody has died with it twice, is nobody's delay any more.
      if (this.#orphans.get(push)?.leaseToken !== leaseToken) this.#orphans.set(push, { leaseToken, sinceMs });
    }
  }

  /** How long what a dead sender held has waited for another one to push it. */
  tellWaits(goals: Goals, what: string, { accepted }: Pushes, bound: number): void {
    const waits = [...this.#orphans].flatMap(([push, { sinceMs }]) => {
      const [first] = accepted.get(push) ?? [];
      const waitedMs = first ? Date.parse(first.time) - sinceMs : 0;
      // It may have been pushed before its sender died.
      return waitedMs > 0 ? [waitedMs] : [];
    });
    const p99 = `${waits.length} pushes, p99 ${quantile(waits, 0.99).toFixed(0)} ms`;
    goals.atMost(`${what}: G5 what a dead sender held is pushed after ms, at most`, quantile(waits, 1), bound, p99);
  }

  /** Copies that no kill explains, and how many there are after one: at most what a sender has in flight. */
  tellCopies(goals: Goals, what: string, { accepted, copies }: Pushes, inFlight: number): void {
    goals.atMost(`${what}: pushed twice`, copies, inFlight * this.#all.length, `${this.#all.length} kills`);
    const byKill = this.#copiesByKill(accepted);
    goals.atMost(`${what}: pushed twice though nobody was killed after it`, byKill.get(undefined) ?? 0, 0);
    goals.atMost(`${what}: pushed twice after one kill, at most`, Math.max(0, ...byKill.values()), inFlight);
    const failpoints = FAILPOINTS.filter((failpoint) => this.#all.some((kill) => kill.failpoint === failpoint));
    for (const failpoint of failpoints) {
      const kills = [...byKill].filter(([kill]) => kill?.failpoint === failpoint);
      const count = kills.reduce((sum, [, more]) => sum + more, 0);
      if (failpoint === MAY_REPEAT) goals.info(`${what}: pushed twice after kills at ${failpoint}: ${count}`);
      else goals.atMost(`${what}: pushed twice after kills at ${failpoint}`, count, 0);
    }
  }

  /** By the first kill after the first copy; undefined: without one. */
  #copiesByKill(accepted: Accepted): Map<Kill | undefined, number> {
    const inOrder = this.#all.toSorted((one, other) => one.atMs - other.atMs);
    const byKill = new Map<Kill | undefined, number>();
    for (const [first, ...more] of accepted.values()) {
      if (more.length === 0) continue;
      const kill = inOrder.find(({ atMs }) => atMs >= Date.parse(first!.time));
      byKill.set(kill, (byKill.get(kill) ?? 0) + more.length);
    }
    return byKill;
  }
}
