/**
 * Load on a gRPC server, made so that it costs little itself: prepared bytes go out over plain sockets, and of what comes back
 * only frame headers are looked at. Every answer must be the expected one; anything else fails the run. On a bare server it gets
 * as many calls a second as h2load 1.52, for 4 to 6 us of CPU time each where h2load takes 6 to 7; and it can rotate tokens.
 */
import { once } from "node:events";
import net from "node:net";
import type { Clock } from "../clock.ts";
import { clientOpening, FrameFlag, FrameReader, FrameType, settingsAck } from "../testing/http2-frames.ts";
import type { RecordedRequest, RecordedRequests } from "./recorded-requests.ts";

export interface Target {
  port: number;
  requests: RecordedRequests;
  /** The one message of each answer, with gRPC's prefix; not set where answers differ, of which only success is looked at. */
  answer?: Buffer;
}

export interface LoadOptions {
  connections: number;
  /** Open calls on each connection: those of a closed loop, and the most of an open one. */
  callsPerConnection: number;
  durationMs: number;
  clock: Clock;
}

export interface Saturation {
  calls: number;
  callsPerSecond: number;
}

export interface Latencies {
  calls: number;
  /** Milliseconds from the moment at which each call was due, in order of their ends. */
  latenciesMs: Float64Array;
  /** Milliseconds by which each call was sent late: the generator's own share. */
  lagsMs: Float64Array;
}

/** A server that has not answered all calls so long after the last one was sent does not answer at all. */
const PATIENCE_MS = 30_000;

/** Keeps the server busy: every answer is followed by the next call. Resolves when the last answer is there. */
export async function saturate(target: Target, options: LoadOptions): Promise<Saturation> {
  const { clock, durationMs, callsPerConnection } = options;
  await using load = await openLoad(target, options);
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const startedAt = clock.monotonic();
  load.onAnswers = (connection, count) => {
    if (clock.monotonic() - startedAt < durationMs) connection.send(count);
    else if (load.openCalls() === 0) resolve();
  };
  for (const connection of load.connections) connection.send(callsPerConnection);
  await Promise.race([done, load.failed]);
  const seconds = (clock.monotonic() - startedAt) / 1000;
  const calls = load.answered();
  return { calls, callsPerSecond: calls / seconds };
}

/**
 * Sends calls at a fixed rate, however long their answers take (an open loop), in turn over the connections. A call that finds
 * no room is sent late, and its latency counts from when it was due all the same.
 */
export async function sendAtRate(target: Target, callsPerSecond: number, options: LoadOptions): Promise<Latencies> {
  const { clock, durationMs, callsPerConnection } = options;
  await using load = await openLoad(target, options);
  const total = Math.floor((callsPerSecond * durationMs) / 1000);
  const result = { calls: total, latenciesMs: new Float64Array(total), lagsMs: new Float64Array(total) };
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const startedAt = clock.monotonic();
  const dueAt = (call: number) => startedAt + (call * 1000) / callsPerSecond;
  let sent = 0;
  let ended = 0;
  load.onAnswer = (call) => {
    result.latenciesMs[ended++] = clock.monotonic() - dueAt(call);
    if (ended === total) resolve();
  };
  const sendDue = () => {
    for (; sent < total; sent++) {
      const lateMs = clock.monotonic() - dueAt(sent);
      const connection = load.connections[sent % load.connections.length]!;
      if (lateMs < 0 || connection.openCalls >= callsPerConnection) break;
      result.lagsMs[sent] = lateMs;
      connection.send(1, sent);
    }
    // Not a timer, which has a grain of a millisecond: the generator has a core of its own.
    if (sent < total && !load.isClosed) setImmediate(sendDue);
  };
  sendDue();
  await Promise.race([done, load.failed]);
  return result;
}

/** The connections of one run. */
class Load implements AsyncDisposable {
  readonly connections: LoadConnection[] = [];
  readonly failed: Promise<never>;
  readonly fail: (error: Error) => void;
  readonly #patience: NodeJS.Timeout;
  isClosed = false;
  /** Called for each answer, with the number of its call. */
  onAnswer: ((call: number) => void) | undefined;
  /** Called for each chunk of bytes that had answers. */
  onAnswers: ((connection: LoadConnection, count: number) => void) | undefined;

  constructor({ durationMs }: LoadOptions) {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {});
    this.failed = promise;
    this.fail = reject;
    this.#patience = setTimeout(() => reject(new Error("some calls were not answered")), durationMs + PATIENCE_MS);
  }

  openCalls(): number {
    return this.connections.reduce((sum, { openCalls }) => sum + openCalls, 0);
  }

  answered(): number {
    return this.connections.reduce((sum, { answered }) => sum + answered, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.#patience);
    await Promise.all(this.connections.map((connection) => connection.close()));
  }
}

async function openLoad(target: Target, options: LoadOptions): Promise<Load> {
  const { connections } = options;
  const sockets = Array.from({ length: connections }, () => {
    return net.connect({ host: "127.0.0.1", port: target.port, noDelay: true });
  });
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  const load = new Load(options);
  for (const [index, socket] of sockets.entries()) {
    // Connections begin at different places of the rotation.
    const firstRequest = Math.floor((index * target.requests.next.length) / connections);
    load.connections.push(new LoadConnection(socket, target, firstRequest, load));
  }
  return load;
}

class LoadConnection {
  openCalls = 0;
  answered = 0;
  readonly #socket: net.Socket;
  readonly #target: Target;
  readonly #firstRequest: number;
  readonly #load: Load;
  /** Of the calls by their order on this connection, the numbers that they were sent with. */
  readonly #callNumbers: number[] = [];
  #sent = 0;
  #dataBytes = 0;
  #isClosing = false;

  constructor(socket: net.Socket, target: Target, firstRequest: number, load: Load) {
    this.#socket = socket;
    this.#target = target;
    this.#firstRequest = firstRequest;
    this.#load = load;
    const reader = new FrameReader((type, flags, streamId, bytes, start, end) => {
      this.#onFrame(type, flags, streamId, bytes, start, end);
    });
    socket.write(clientOpening());
    socket.on("error", (error) => this.#fail(error.message));
    socket.on("close", () => this.#fail("the connection was closed"));
    socket.on("data", (chunk) => {
      const before = this.answered;
      reader.push(chunk);
      if (this.answered > before) load.onAnswers?.(this, this.answered - before);
    });
  }

  /** Sends this many calls in one write; one that is to be timed has a number. */
  send(count: number, callNumber = 0): void {
    const chosen: RecordedRequest[] = [];
    let length = 0;
    for (let index = 0; index < count; index++) {
      const request = this.#requestAfter(this.#sent + index);
      chosen.push(request);
      length += request.bytes.length;
    }
    const out = Buffer.allocUnsafe(length);
    let at = 0;
    for (const { bytes, idPlaces } of chosen) {
      out.set(bytes, at);
      const streamId = 2 * this.#sent++ + 1;
      out.writeUInt32BE(streamId, at + idPlaces[0]);
      out.writeUInt32BE(streamId, at + idPlaces[1]);
      this.#callNumbers.push(callNumber);
      at += bytes.length;
    }
    this.openCalls += count;
    this.#socket.write(out);
  }

  #requestAfter(sent: number): RecordedRequest {
    const { first, next } = this.#target.requests;
    return sent === 0 ? first : next[(this.#firstRequest + sent) % next.length]!;
  }

  #onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    switch (type) {
      case FrameType.data:
        this.#onData(bytes, start, end);
        return;
      case FrameType.headers:
        // Trailers. A failed call has no data, which the sum tells.
        if (flags & FrameFlag.endStream) this.#onAnswered(streamId);
        return;
      case FrameType.settings:
        if (!(flags & FrameFlag.ack)) this.#socket.write(settingsAck);
        return;
      case FrameType.windowUpdate:
        return;
      default:
        this.#fail(`a frame of type ${type} was not expected`);
    }
  }

  #onData(bytes: Buffer, start: number, end: number): void {
    const { answer } = this.#target;
    this.#dataBytes += answer ? end - start : 1;
    if (!answer) return;
    if (end - start === answer.length && answer.compare(bytes, start, end) !== 0) this.#fail("another answer came");
  }

  #onAnswered(streamId: number): void {
    this.openCalls--;
    this.answered++;
    this.#load.onAnswer?.(this.#callNumbers[(streamId - 1) / 2]!);
    // Where answers differ, each is one frame.
    const expectedBytes = this.answered * (this.#target.answer?.length ?? 1);
    if (this.openCalls === 0 && this.#dataBytes !== expectedBytes) {
      this.#fail("some calls were answered with another status or message");
    }
  }

  #fail(what: string): void {
    if (!this.#isClosing) this.#load.fail(new Error(`load on port ${this.#target.port}: ${what}`));
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#socket.closed) return;
    const closed = once(this.#socket, "close");
    this.#socket.destroy();
    await closed;
  }
}
