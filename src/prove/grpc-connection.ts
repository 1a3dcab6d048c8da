/** SayHello over gRPC on one HTTP/2 connection, from bytes that were prepared; costs little, so that it can be believed. */
import net from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { SayHelloRequestSchema, SayHelloResponseSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import {
  clientOpening,
  FrameFlag,
  FrameReader,
  FrameType,
  http2Frame,
  type OnFrame,
  postBlock,
  settingsAck,
} from "../testing/http2-frames.ts";
import { frameMessage } from "../testing/wire.ts";

/** Told once for each call whether it was answered right, or else whether it was answered at all: with an error. */
export type OnAnswer = (isRight: boolean, isRefused: boolean) => void;

const STREAM_ID_OFFSET = 5;
const request = frameMessage(toBinary(SayHelloRequestSchema, create(SayHelloRequestSchema, { name: "Ann" })));
const answer = frameMessage(
  toBinary(SayHelloResponseSchema, create(SayHelloResponseSchema, { message: "Hello, Ann!" })),
);

interface OpenCall {
  onAnswer: OnAnswer;
  hasAnswer: boolean;
}

/** Connects when it is first used, and again when it was cut: the calls that were open then have failed. */
export class GrpcConnection {
  readonly #port: number;
  readonly #localAddress: string;
  readonly #call: Buffer;
  readonly #dataOffset: number;
  readonly #open = new Map<number, OpenCall>();
  #socket: net.Socket | undefined;
  #nextStreamId = 1;

  constructor(target: { port: number; path: string; accessToken: string }, localAddress: string) {
    this.#port = target.port;
    this.#localAddress = localAddress;
    const block = postBlock(`127.0.0.1:${target.port}`, target.path, [
      ["content-type", "application/grpc+proto"],
      ["te", "trailers"],
      ["authorization", `Bearer ${target.accessToken}`],
    ]);
    const headers = http2Frame(FrameType.headers, FrameFlag.endHeaders, 0, block);
    this.#dataOffset = headers.length;
    this.#call = Buffer.concat([headers, http2Frame(FrameType.data, FrameFlag.endStream, 0, request)]);
  }

  /** Calls that have no answer yet. */
  get openCalls(): number {
    return this.#open.size;
  }

  /** Sends what `work` sends in one go. */
  together(work: () => void): void {
    const socket = this.#connected();
    socket.cork();
    work();
    socket.uncork();
  }

  call(onAnswer: OnAnswer): void {
    const socket = this.#connected();
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    this.#open.set(streamId, { onAnswer, hasAnswer: false });
    const bytes = Buffer.from(this.#call);
    bytes.writeUInt32BE(streamId, STREAM_ID_OFFSET);
    bytes.writeUInt32BE(streamId, this.#dataOffset + STREAM_ID_OFFSET);
    socket.write(bytes);
  }

  close(): void {
    this.#socket?.destroy();
  }

  #connected(): net.Socket {
    if (this.#socket) return this.#socket;
    const socket = net.connect({
      host: "127.0.0.1",
      port: this.#port,
      localAddress: this.#localAddress,
      noDelay: true,
    });
    this.#socket = socket;
    this.#nextStreamId = 1;
    socket.write(clientOpening());
    const reader = new FrameReader((...frame) => this.#onFrame(socket, ...frame));
    socket.on("data", (chunk) => reader.push(chunk));
    socket.on("error", () => {});
    socket.on("close", () => this.#cut(socket));
    return socket;
  }

  #onFrame(socket: net.Socket, ...[type, flags, streamId, bytes, start, end]: Parameters<OnFrame>): void {
    const call = this.#open.get(streamId);
    switch (type) {
      case FrameType.data:
        if (call && bytes.compare(answer, 0, answer.length, start, end) === 0) call.hasAnswer = true;
        break;
      case FrameType.headers:
        // The second ones are trailers; a call that failed has no data before them.
        if ((flags & FrameFlag.endStream) !== 0) this.#end(streamId, call?.hasAnswer ?? false, !call?.hasAnswer);
        break;
      case FrameType.resetStream:
        this.#end(streamId, false, false);
        break;
      case FrameType.goAway:
        this.#cut(socket);
        break;
      case FrameType.settings:
        if ((flags & FrameFlag.ack) === 0) socket.write(settingsAck);
        break;
      case FrameType.ping: {
        const echo = http2Frame(FrameType.ping, FrameFlag.ack, 0, bytes.subarray(start, end));
        if ((flags & FrameFlag.ack) === 0) socket.write(echo);
      }
    }
  }

  #end(streamId: number, isRight: boolean, isRefused: boolean): void {
    const call = this.#open.get(streamId);
    this.#open.delete(streamId);
    call?.onAnswer(isRight, isRefused);
  }

  #cut(socket: net.Socket): void {
    socket.destroy();
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    const failed = [...this.#open.values()];
    this.#open.clear();
    for (const { onAnswer } of failed) onAnswer(false, false);
  }
}
