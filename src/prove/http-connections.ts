/** SayHello over Connect on kept-alive HTTP/1.1 connections: as many as there are calls at once. */
import net from "node:net";
import type { OnAnswer } from "./grpc-connection.ts";

const BODY = JSON.stringify({ name: "Ann" });
const ANSWER = JSON.stringify({ message: "Hello, Ann!" });
const LAST_CHUNK = "0\r\n\r\n";

interface Lane {
  socket: net.Socket;
  received: string;
  onAnswer: OnAnswer | undefined;
}

export class HttpConnections {
  readonly #port: number;
  readonly #localAddresses: readonly string[];
  readonly #call: string;
  readonly #idle: Lane[] = [];
  #opened = 0;

  constructor(target: { port: number; path: string; accessToken: string }, localAddresses: readonly string[]) {
    this.#port = target.port;
    this.#localAddresses = localAddresses;
    this.#call = [
      `POST ${target.path} HTTP/1.1`,
      `Host: 127.0.0.1:${target.port}`,
      "Content-Type: application/json",
      "Connect-Protocol-Version: 1",
      `Content-Length: ${BODY.length}`,
      `Authorization: Bearer ${target.accessToken}`,
      "",
      BODY,
    ].join("\r\n");
  }

  call(onAnswer: OnAnswer): void {
    const lane = this.#idle.pop() ?? this.#open();
    lane.onAnswer = onAnswer;
    lane.socket.write(this.#call);
  }

  #open(): Lane {
    const localAddress = this.#localAddresses[this.#opened++ % this.#localAddresses.length];
    const socket = net.connect({ host: "127.0.0.1", port: this.#port, localAddress, noDelay: true });
    const lane: Lane = { socket, received: "", onAnswer: undefined };
    socket.setEncoding("latin1").on("data", (text: string) => this.#onText(lane, text));
    socket.on("error", () => {});
    socket.on("close", () => this.#cut(lane));
    return lane;
  }

  #onText(lane: Lane, text: string): void {
    lane.received += text;
    const { received } = lane;
    if (!received.startsWith("HTTP/1.1 200 ".slice(0, received.length))) {
      this.#cut(lane);
      return;
    }
    const isOver = received.endsWith(ANSWER) || (received.includes(ANSWER) && received.endsWith(LAST_CHUNK));
    if (!isOver) return;
    lane.received = "";
    this.#idle.push(lane);
    this.#settle(lane, true);
  }

  #cut(lane: Lane): void {
    lane.socket.destroy();
    const at = this.#idle.indexOf(lane);
    if (at >= 0) this.#idle.splice(at, 1);
    this.#settle(lane, false);
  }

  #settle(lane: Lane, isRight: boolean): void {
    const { onAnswer } = lane;
    lane.onAnswer = undefined;
    onAnswer?.(isRight, false);
  }
}
