/**
 * What a service does on one kind of another's events. An effect runs in the transaction that moves the cursor past its event
 * (follower.ts), so it is done once.
 */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import type { Tx } from "../db/database.ts";
import type { OutboxEvent } from "./emit.ts";
import type { FeedEvent } from "./tail.ts";

/** Made by on(). */
export interface Effect {
  /** Full name of the event's message. */
  readonly type: string;
  /** Reads the payload, throwing UnreadablePayload, and returns what is to be done. */
  prepare(event: FeedEvent): (tx: Tx) => Published;
}

/** What an effect publishes itself; nothing, in most cases. */
export type Published = Promise<void> | Promise<readonly OutboxEvent[]>;

/** By the names of events. */
export type Effects = ReadonlyMap<string, Effect>;

/** The payload is no such message; trying again helps nobody. */
export class UnreadablePayload extends Error {
  override readonly name = "UnreadablePayload";
}

/**
 * An effect, in the transaction that also moves the cursor; it must do nothing that a rollback does not undo (no RPC). What it
 * publishes it returns: the effects of many events share a transaction, in which emit() is called once. It must be
 * idempotent: after a lost cursor every event that is kept comes again, also those that newer ones have followed.
 */
export function on<Desc extends DescMessage>(
  desc: Desc,
  effect: (tx: Tx, fact: MessageShape<Desc>, event: FeedEvent) => Published,
): Effect {
  return {
    type: desc.typeName,
    prepare(event) {
      const fact = readPayload(desc, event.payload);
      return (tx) => effect(tx, fact, event);
    },
  };
}

/** Without the parser's words, which could quote the payload. */
function readPayload<Desc extends DescMessage>(desc: Desc, payload: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(desc, payload);
  } catch {
    throw new UnreadablePayload(`this is no ${desc.typeName}`);
  }
}
