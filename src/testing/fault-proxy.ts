/**
 * A TCP proxy that stands on an edge between two processes and makes the network fail: slow, thin, silent, cut, reset.
 * Faults hold for live and for new connections until heal(). Bytes are never changed, dropped or reordered while a
 * connection lives, and what was held back is delivered on heal(), as after a partition.
 */
import { randomInt } from "node:crypto";
import net from "node:net";
import { systemClock } from "../clock.ts";

export interface FaultProxy extends AsyncDisposable {
  readonly host: string;
  /** Stays the same through cut() and heal(). */
  readonly port: number;
  /** "http://127.0.0.1:20123" */
  readonly url: string;
  /** Delivers everything this much later, in each direction; the throughput stays as it is. */
  latency(ms: number): void;
  /** Lets this many bytes a second through, in each direction of each connection. */
  byteRate(bytesPerSecond: number): void;
  /** A black hole: connections are accepted and stay open, nothing passes, closing included. */
  hang(): void;
  /** Closes all connections; new ones are refused. */
  cut(): void;
  /** Ends all connections with RST; new ones end so as soon as they are accepted. */
  reset(): void;
  /** Ends every fault. Resolves when new connections are accepted. */
  heal(): Promise<void>;
  /** Open connections of clients. */
  connectionCount(): number;
  /** Connections of clients so far. */
  readonly accepted: number;
}

/** Starts a proxy on 127.0.0.1 before `target`. */
export async function startFaultProxy(target: { host: string; port: number }): Promise<FaultProxy> {
  const proxy = new TcpFaultProxy(target);
  await proxy.start();
  return proxy;
}

// Below the ports that systems hand out by themselves: while a cut proxy does not listen, nobody is given its port.
const LOWEST_PORT = 20_000;
const HIGHEST_PORT = 32_000;
/** Those of proxies that may be cut. */
const taken = new Set<number>();
const HOST = "127.0.0.1";
const LONGEST_PAUSE_MS = 2 ** 30;
/** Past this a source is no longer read, and its sender has to wait. */
const MAX_QUEUED_BYTES = 1024 * 1024;
const SLICES_PER_SECOND = 50;

/** What one side has sent and the other has not been given yet. */
interface Parcel {
  content: Buffer | "end" | "reset";
  arrivedAtMs: number;
}

class TcpFaultProxy implements FaultProxy {
  readonly host = HOST;
  port = 0;
  accepted = 0;
  readonly #target: { host: string; port: number };
  readonly #server: net.Server;
  readonly #clients = new Set<net.Socket>();
  readonly #upstreams = new Set<net.Socket>();
  readonly #pauses = new Set<() => void>();
  #state: "open" | "hanging" | "resetting" | "cut" | "disposed" = "open";
  #latencyMs = 0;
  #bytesPerSecond = Number.POSITIVE_INFINITY;

  constructor(target: { host: string; port: number }) {
    this.#target = target;
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => void this.#accept(client));
  }

  get url(): string {
    return `http://${this.host}:${this.port}`;
  }

  async start(): Promise<void> {
    for (;;) {
      try {
        const port = randomInt(LOWEST_PORT, HIGHEST_PORT);
        if (taken.has(port)) continue;
        await this.#listen(port);
        taken.add(port);
        this.port = port;
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      }
    }
  }

  latency(ms: number): void {
    this.#latencyMs = ms;
    this.#endPauses();
  }

  byteRate(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#endPauses();
  }

  hang(): void {
    this.#state = "hanging";
  }

  cut(): void {
    this.#state = "cut";
    this.#server.close();
    for (const socket of this.#sockets()) socket.destroy();
    this.#endPauses();
  }

  reset(): void {
    this.#state = "resetting";
    for (const socket of this.#sockets()) resetSocket(socket);
    this.#endPauses();
  }

  async heal(): Promise<void> {
    if (this.#state === "disposed") throw new Error("the proxy has been disposed of");
    this.#state = "open";
    this.#latencyMs = 0;
    this.#bytesPerSecond = Number.POSITIVE_INFINITY;
    this.#endPauses();
    if (!this.#server.listening) await this.#listen(this.port);
  }

  connectionCount(): number {
    return this.#clients.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Array.from(this.#sockets(), (socket) => new Promise((resolve) => socket.once("close", resolve)));
    this.cut();
    this.#state = "disposed";
    await Promise.all([...closed, new Promise((resolve) => this.#server.close(resolve))]);
  }

  #sockets(): net.Socket[] {
    return [...this.#clients, ...this.#upstreams];
  }

  #listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host: HOST, port }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  async #accept(client: net.Socket): Promise<void> {
    this.accepted += 1;
    follow(client, this.#clients);
    if (this.#state === "resetting") return resetSocket(client);
    while (this.#state === "hanging") await this.#pause(LONGEST_PAUSE_MS);
    if (client.destroyed) return;
    const upstream = net.connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
    follow(upstream, this.#upstreams);
    await Promise.all([this.#carry(client, upstream), this.#carry(upstream, client)]);
  }

  /** Carries one direction of a connection to its end. */
  async #carry(from: net.Socket, to: net.Socket): Promise<void> {
    for await (const { content, arrivedAtMs } of parcelsOf(from)) {
      if (typeof content === "string") {
        await this.#untilDue(arrivedAtMs, to);
        return content === "end" ? void to.end() : resetSocket(to);
      }
      await this.#deliver(content, arrivedAtMs, to);
    }
  }

  async #deliver(content: Buffer, arrivedAtMs: number, to: net.Socket): Promise<void> {
    for (let start = 0; start < content.length && !to.destroyed; ) {
      await this.#untilDue(arrivedAtMs, to); // a hang may begin between two slices
      const sliceBytes = Math.max(1, Math.floor(Math.min(this.#bytesPerSecond / SLICES_PER_SECOND, content.length)));
      const slice = content.subarray(start, start + sliceBytes);
      start += slice.length;
      await new Promise<unknown>((resolve) => to.write(slice, resolve));
      if (this.#bytesPerSecond < Number.POSITIVE_INFINITY) {
        await this.#pause((slice.length * 1000) / this.#bytesPerSecond);
      }
    }
  }

  /** Waits while the proxy hangs, and until what arrived then has had its latency; no longer than `to` lives. */
  async #untilDue(arrivedAtMs: number, to: net.Socket): Promise<void> {
    while (!to.destroyed) {
      const hanging = this.#state === "hanging";
      const waitMs = hanging ? LONGEST_PAUSE_MS : arrivedAtMs + this.#latencyMs - systemClock.monotonic();
      if (waitMs <= 0) return;
      await this.#pause(waitMs);
    }
  }

  /** Resolves after that time, or sooner when the faults change. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#pauses.add(end);
    });
  }

  #endPauses(): void {
    for (const end of [...this.#pauses]) end();
  }
}

function follow(socket: net.Socket, sockets: Set<net.Socket>): void {
  sockets.add(socket);
  socket.on("error", () => {}); // told as a parcel
  socket.once("close", () => sockets.delete(socket));
}

/** Ends a connection with RST. One that is not established yet has nothing to reset. */
function resetSocket(socket: net.Socket): void {
  if (socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}

/** What a socket sends, with its time of arrival, read ahead up to a bound; the last parcel says how it ended. */
async function* parcelsOf(socket: net.Socket): AsyncGenerator<Parcel> {
  const queue: Parcel[] = [];
  let queuedBytes = 0;
  let wake = () => {};
  const push = (content: Parcel["content"]) => {
    queue.push({ content, arrivedAtMs: systemClock.monotonic() });
    wake();
  };
  socket.on("data", (chunk: Buffer) => {
    queuedBytes += chunk.length;
    if (queuedBytes > MAX_QUEUED_BYTES) socket.pause();
    push(chunk);
  });
  socket.once("end", () => push("end"));
  socket.once("error", () => push("reset"));
  socket.once("close", () => push("end"));
  for (;;) {
    const parcel = queue.shift();
    if (!parcel) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      continue;
    }
    yield parcel;
    if (typeof parcel.content === "string") return;
    queuedBytes -= parcel.content.length;
    if (queuedBytes <= MAX_QUEUED_BYTES) socket.resume();
  }
}
