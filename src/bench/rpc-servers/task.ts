/** What all servers of `make bench/rpc` do: the method, its answer, and whose tokens they know. */
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import type { SessionCheck } from "../../token/session-check.ts";
import type { KeySet } from "../../token/signing-keys.ts";

export const METHOD = GreeterService.method.sayHello;
export const PROCEDURE = `/${GreeterService.typeName}/${METHOD.name}`;
export const ISSUER = "https://id.example.com";

export const SERVER_NAMES = [
  "ours",
  "grpc-js-chain",
  "connect-adapter",
  "ours-long-way",
  "grpc-js-bare",
  "http2-bare",
] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

/** Bare servers answer everybody, and log nothing. */
export function hasChain(name: ServerName): boolean {
  return !name.endsWith("-bare");
}

/** What a server is told before it starts. */
export interface Task {
  /** Public keys of the access tokens. */
  keys: KeySet;
  /** The sessions that live, all of generation 0. */
  sessionIds: string[];
  /** The name that the load sends, and the message that must come back. */
  name: string;
  answer: Uint8Array;
}

/** A server that runs. */
export interface BenchServer {
  port: number;
  /** What it has measured of itself, as Prometheus reads it; bare servers measure nothing. */
  metrics?(): Promise<string>;
}

/** What the method answers, about as long as the answers of our real methods. */
export function greeting(name: string): string {
  return `Hello, ${name}! It is good to see you here. Your room is ready, your luggage is on its way up, and \
breakfast is served in the garden from seven until half past ten. Enjoy your stay.`;
}

/** Answers from memory, as a service does that has followed the feed of sessions up to now. */
export function sessionsInMemory({ sessionIds }: Task): SessionCheck {
  const generations = new Map(sessionIds.map((sessionId) => [sessionId, 0]));
  return ({ sessionId, generation }) => Promise.resolve(generations.get(sessionId) === generation);
}
