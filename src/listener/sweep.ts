/**
 * Looks at all connections, but not in one turn of the event loop: a crowd that came together expires together, and whoever
 * calls meanwhile would wait until the last of it is closed.
 */
import type { Connection } from "./connections.ts";

/** A millisecond or so each. */
const LOOKS_PER_TURN = 1_000;
const CUTS_PER_TURN = 50;

export class Sweep {
  readonly #connections: Iterable<Connection>;
  /** Looks at one; true when it was cut. */
  readonly #look: (connection: Connection) => boolean;
  #nextTurn: NodeJS.Immediate | undefined;

  constructor(connections: Iterable<Connection>, look: (connection: Connection) => boolean) {
    this.#connections = connections;
    this.#look = look;
  }

  /** Begins with the first one, unless it is still on its way. */
  start(): void {
    if (!this.#nextTurn) this.#goOn(this.#connections[Symbol.iterator]());
  }

  stop(): void {
    clearImmediate(this.#nextTurn);
    this.#nextTurn = undefined;
  }

  #goOn(rest: Iterator<Connection>): void {
    this.#nextTurn = undefined;
    for (let looks = 0, cuts = 0; looks < LOOKS_PER_TURN && cuts < CUTS_PER_TURN; looks++) {
      const { value, done } = rest.next();
      if (done) return;
      if (this.#look(value)) cuts++;
    }
    this.#nextTurn = setImmediate(() => this.#goOn(rest));
  }
}
