/** Attacks that want the server to wait: connections that say nothing, and a crowd that says it a byte at a time. */
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../clock.ts";
import { clientOpening, FrameFlag, FrameType, http2Frame, PREFACE, postBlock } from "../testing/http2-frames.ts";
import { type Attack, AttackConnection, type AttackTarget, holdUntilEnd, openAtRate, takeAddresses } from "./attack.ts";

const IDLE_CONNECTIONS = 10_000;
/** Fewer than the 256 that one address may have. */
const PER_ADDRESS = 250;
const IDLE_PER_SECOND = 2_500;
const CROWD = 1_000;
const CROWD_PER_SECOND = 500;
const DRIP_MS = 500;
/** More than one address may have; its connections beyond that must be closed at once. */
const GREEDY_CONNECTIONS = 300;
const CONNECT_PATIENCE_MS = 3_000;
const REFUSAL_MS = 300;
const POLL_MS = 50;

/** 10,000 connections of 40 addresses that send nothing, and one address that wants more than its share. */
export const idle: Attack = async (target) => {
  const startedAt = systemClock.monotonic();
  const [greedyAddress, ...addresses] = takeAddresses(1 + IDLE_CONNECTIONS / PER_ADDRESS);
  const open = (index: number) => new AttackConnection(target.port, addresses[Math.floor(index / PER_ADDRESS)]!);
  const connections = await openAtRate(IDLE_CONNECTIONS, IDLE_PER_SECOND, open);
  const greedy = await openAtRate(GREEDY_CONNECTIONS, IDLE_PER_SECOND, () => {
    return new AttackConnection(target.port, greedyAddress!);
  });
  await everyoneIsIn([...connections, ...greedy]);
  await refusalsArrived(greedy);
  const openedMs = systemClock.monotonic() - startedAt;
  const held = connections.filter(({ isOver, wasConnected }) => wasConnected && !isOver).length;
  const greedyHeld = greedy.filter(({ isOver }) => !isOver).length;
  await holdUntilEnd([...connections, ...greedy], startedAt, target);
  return {
    openedMs,
    held,
    greedyHeld,
    stillOpen: connections.filter(({ isOver }) => !isOver).length,
    longestMs: longestOf(connections),
  };
};

/** Waits until every connection was made or refused. */
async function everyoneIsIn(connections: readonly AttackConnection[]): Promise<void> {
  const patience = AbortSignal.timeout(CONNECT_PATIENCE_MS);
  const isPending = ({ wasConnected, isOver }: AttackConnection) => !wasConnected && !isOver;
  while (!patience.aborted && connections.some(isPending)) await delay(POLL_MS);
}

/** The kernel connects before the server accepts and refuses: waits until there has been no refusal for a while. */
async function refusalsArrived(connections: readonly AttackConnection[]): Promise<void> {
  const held = () => connections.filter(({ isOver }) => !isOver).length;
  const patience = AbortSignal.timeout(CONNECT_PATIENCE_MS);
  for (let before = Number.POSITIVE_INFINITY; !patience.aborted && held() < before; ) {
    before = held();
    await delay(REFUSAL_MS);
  }
}

interface Drip {
  kind: string;
  /** Sent at once. */
  first: Buffer;
  /** Sent afterwards, again and again, a byte (or a frame of one byte) at a time. */
  next(count: number): Buffer;
}

/** 1,000 connections of four addresses: a third drips HTTP/1.1 headers, a third a body, a third HTTP/2. */
export const slowLoris: Attack = async (target) => {
  const startedAt = systemClock.monotonic();
  const drips = dripsFor(target);
  const kinds: string[] = [];
  const addresses = takeAddresses(CROWD / PER_ADDRESS);
  const connections = await openAtRate(CROWD, CROWD_PER_SECOND, (index) => {
    const connection = new AttackConnection(target.port, addresses[Math.floor(index / PER_ADDRESS)]!);
    const drip = drips[index % drips.length]!;
    kinds.push(drip.kind);
    run(connection, drip);
    return connection;
  });
  await holdUntilEnd(connections, startedAt, target);
  const facts: Record<string, number> = { stillOpen: connections.filter(({ isOver }) => !isOver).length };
  for (const { kind } of drips) {
    facts[`${kind}LongestMs`] = longestOf(connections.filter((_, index) => kinds[index] === kind));
  }
  return facts;
};

function run(connection: AttackConnection, { first, next }: Drip): void {
  const { socket } = connection;
  socket.write(first);
  let count = 0;
  const timer = setInterval(() => socket.write(next(count++)), DRIP_MS);
  socket.resume();
  // An answer is what it waited for in vain: the call is over, whatever becomes of the connection.
  socket.on("data", (chunk: Buffer) => {
    if (endsCall(chunk)) connection.noteEnd();
  });
  socket.once("close", () => clearInterval(timer));
}

/** An HTTP/1.1 status line, or a frame of HTTP/2 that ends the one stream there is. */
function endsCall(chunk: Buffer): boolean {
  if (chunk.toString("latin1", 0, 5) === "HTTP/") return true;
  for (let at = 0; at + 9 <= chunk.length; at += 9 + chunk.readUIntBE(at, 3)) {
    if (chunk.readUInt32BE(at + 5) !== 0) return true;
  }
  return false;
}

function dripsFor({ port, openPath }: AttackTarget): Drip[] {
  const letter = Buffer.from("x");
  const head = (rest: string) => Buffer.from(`POST ${openPath} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${rest}`);
  const block = postBlock(`127.0.0.1:${port}`, openPath, [["content-type", "application/grpc+proto"]]);
  const stream = http2Frame(FrameType.headers, FrameFlag.endHeaders, 1, block);
  return [
    { kind: "headers", first: head("X-Slow: "), next: () => letter },
    {
      kind: "body",
      first: head("Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"),
      next: () => letter,
    },
    { kind: "preface", first: PREFACE.subarray(0, 1), next: (count) => PREFACE.subarray(count + 1, count + 2) },
    {
      kind: "frames",
      first: Buffer.concat([clientOpening(), stream]),
      next: () => http2Frame(FrameType.data, 0, 1, letter),
    },
  ];
}

function longestOf(connections: readonly AttackConnection[]): number {
  return connections.reduce((longest, { lifeMs }) => Math.max(longest, lifeMs ?? 0), 0);
}
