/**
 * What an attack is: it lasts for a time, ends by itself, and says what became of its connections. Attackers have addresses
 * of their own, 127.0.1.x; a server on 127.0.0.1 takes them for so many machines.
 */
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../clock.ts";

export interface AttackTarget {
  port: number;
  /** An open method that takes a JSON message: "/concierge.auth.v1.AuthService/Login". */
  openPath: string;
  durationMs: number;
  /** Whether to wait, after that, until the server has closed everything by itself; at most this long. */
  patienceMs: number;
}

/** Figures for the report, by name. */
export type AttackFacts = Record<string, number>;

export type Attack = (target: AttackTarget) => Promise<AttackFacts>;

const ADDRESSES = 254;
let taken = 0;

/**
 * Addresses that no attack used for some time: one that flooded is refused for a while, and then the next run would measure
 * how refusing works.
 */
export function takeAddresses(count: number): string[] {
  return Array.from({ length: count }, () => `127.0.1.${1 + (taken++ % ADDRESSES)}`);
}

/** One connection of an attacker: when it was opened, and when and how it ended. */
export class AttackConnection {
  readonly socket: net.Socket;
  readonly startedAt = systemClock.monotonic();
  /** Monotonic time at which the server ended it, or said that it would. */
  endedAt: number | undefined;
  wasConnected = false;
  /** By us, at the end of the attack. */
  #isGivenUp = false;
  readonly closed: Promise<void>;

  constructor(port: number, localAddress: string) {
    this.socket = net.connect({ host: "127.0.0.1", port, localAddress, noDelay: true });
    this.socket.on("connect", () => {
      this.wasConnected = true;
    });
    this.socket.on("error", () => {}); // it was cut: "close" follows
    this.socket.on("end", () => this.noteEnd());
    this.closed = new Promise((resolve) => {
      this.socket.once("close", () => {
        this.noteEnd();
        resolve();
      });
    });
  }

  noteEnd(): void {
    if (!this.#isGivenUp) this.endedAt ??= systemClock.monotonic();
  }

  get isOver(): boolean {
    return this.endedAt !== undefined;
  }

  /** Until the server ended it; undefined when it did not. */
  get lifeMs(): number | undefined {
    return this.endedAt === undefined ? undefined : this.endedAt - this.startedAt;
  }

  giveUp(): void {
    this.#isGivenUp = true;
    this.socket.destroy();
  }
}

/** Short, so that they come one by one and not in crowds. */
const BATCH_MS = 2;

/** Opens connections at a steady rate, so that the attacker itself does not become the bottleneck. */
export async function openAtRate(
  count: number,
  perSecond: number,
  open: (index: number) => AttackConnection,
): Promise<AttackConnection[]> {
  const connections: AttackConnection[] = [];
  const startedAt = systemClock.monotonic();
  while (connections.length < count) {
    const due = Math.min(count, Math.ceil(((systemClock.monotonic() - startedAt) * perSecond) / 1000));
    while (connections.length < due) connections.push(open(connections.length));
    await delay(BATCH_MS);
  }
  return connections;
}

/** Waits until the end of the attack and, in its last run, until the server has closed everything; then gives up. */
export async function holdUntilEnd(
  connections: readonly AttackConnection[],
  startedAt: number,
  { durationMs, patienceMs }: Pick<AttackTarget, "durationMs" | "patienceMs">,
): Promise<void> {
  await delay(Math.max(0, startedAt + durationMs - systemClock.monotonic()));
  const patience = new AbortController();
  const allClosed = Promise.all(connections.map(({ closed }) => closed));
  await Promise.race([allClosed, delay(patienceMs, undefined, { signal: patience.signal }).catch(() => {})]);
  patience.abort();
  for (const connection of connections) connection.giveUp();
}
