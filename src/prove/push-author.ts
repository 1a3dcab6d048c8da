/**
 * An author: creates notifications at a steady rate, each for one person or a few, under a key of its own, and asks again, elsewhere
 * and with the same key, until it is answered. What it was answered is what the ledger is held against.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "../testing/seeded.ts";
import type { PushSetting } from "./push-setting.ts";

const TICK_MS = 5;
const TRY_AGAIN_MS = 50;
/** Calls; more would only wait for each other. */
const MAX_OPEN = 100;
/** A process of notification that was killed is back long before. */
const PATIENCE_MS = 60_000;
/** One notification in so many is for several people. */
const SEVERAL = 10;
const MAX_SEVERAL = 5;

export interface AuthorOptions {
  clients: PushSetting["clients"];
  people: readonly string[];
  random: Random;
  /** Notifications in a second. */
  rate: number;
}

export class Author {
  /** Recipients by notification. */
  readonly created = new Map<string, string[]>();
  /** Calls that were made again. */
  repeated = 0;
  readonly #options: AuthorOptions;

  constructor(options: AuthorOptions) {
    this.#options = options;
  }

  /** Creates this many, or until it is told to end. Resolves when all are answered, to how many there were in a second. */
  async run(count: number, signal?: AbortSignal): Promise<number> {
    const startedAt = performance.now();
    const seconds = () => (performance.now() - startedAt) / 1_000;
    const open = new Set<Promise<void>>();
    let begun = 0;
    while (begun < count && !signal?.aborted) {
      for (; begun < Math.min(seconds() * this.#options.rate, count) && open.size < MAX_OPEN; begun++) {
        const call = this.#create().then(() => void open.delete(call));
        open.add(call);
      }
      await delay(TICK_MS);
    }
    await Promise.all(open);
    return begun / seconds();
  }

  async #create(): Promise<void> {
    const { clients, random } = this.#options;
    const userIds = this.#audience();
    const request = { title: "Order", text: "It is ready.", userIds, idempotencyKey: crypto.randomUUID() };
    const giveUpAt = performance.now() + PATIENCE_MS;
    for (let at = random.below(clients.length); ; at++) {
      try {
        const { notificationId } = await clients[at % clients.length]!.createNotification(request);
        this.created.set(notificationId, userIds);
        return;
      } catch (error) {
        if (performance.now() > giveUpAt) throw error;
        this.repeated++;
        await delay(TRY_AGAIN_MS);
      }
    }
  }

  #audience(): string[] {
    const { people, random } = this.#options;
    const count = random.oneIn(SEVERAL) ? 2 + random.below(MAX_SEVERAL - 1) : 1;
    return [...new Set(Array.from({ length: count }, () => random.pick(people)))];
  }
}
