/**
 * What an event is in Kafka. Key: its subject, so one subject's events share a partition. Value: JSON {id, type, subject, version,
 * time, payload}, where `payload` is the event's message in proto3 JSON with all fields. Headers: "event-id", and "epoch" and
 * "position", its place in the service's feed.
 */
import { type DescFile, fromBinary, toJson } from "@bufbuild/protobuf";
import type { FeedEvent } from "../feed/tail.ts";
import type { Routes } from "./topics.ts";

export interface KafkaRecord {
  topic: string;
  key: Buffer;
  value: Buffer;
  headers: Map<Buffer, Buffer>;
}

/** This event cannot be written as JSON: its type is unknown here, or its bytes are no such message. */
export class UnwritableEvent extends Error {
  override readonly name = "UnwritableEvent";
}

const HEADERS = { id: Buffer.from("event-id"), epoch: Buffer.from("epoch"), position: Buffer.from("position") };

/** Makes the records of events of one service. */
export function recordMaker(events: DescFile, routes: Routes): (event: FeedEvent, epoch: string) => KafkaRecord[] {
  const messages = new Map(events.messages.map((desc) => [desc.typeName, desc]));
  return (event, epoch) => {
    const topics = routes.get(event.type);
    // A newer version of the service knows it, and whether it may leave.
    if (!topics) throw new UnwritableEvent("an event of an unknown type");
    if (topics.length === 0) return [];
    const { id, type, subject, version, position, createdAt } = event;
    let payload: unknown;
    try {
      const desc = messages.get(type)!;
      payload = toJson(desc, fromBinary(desc, event.payload), { alwaysEmitImplicit: true });
    } catch {
      // Without the parser's words, which could quote the payload.
      throw new UnwritableEvent(`this is no ${type}`);
    }
    const time = createdAt.toISOString();
    const value = Buffer.from(JSON.stringify({ id, type, subject, version: Number(version), time, payload }));
    const headers = new Map([
      [HEADERS.id, Buffer.from(id)],
      [HEADERS.epoch, Buffer.from(epoch)],
      [HEADERS.position, Buffer.from(String(position))],
    ]);
    return topics.map((topic) => ({ topic, key: Buffer.from(subject), value, headers }));
  };
}
