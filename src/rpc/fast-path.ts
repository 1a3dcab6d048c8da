/**
 * The short way of plain unary calls: HTTP/2, POST, no compression, gRPC or Connect with binary messages. It works on the
 * streams of node:http2, without Connect's handlers, and goes through the same steps (steps.ts) with the same answers; every
 * other request is left to handler.ts. Answers are not compressed here, and a full listener is told so without more ado.
 */
import type http2 from "node:http2";
import { constants } from "node:http2";
import { create, isMessage, toBinary } from "@bufbuild/protobuf";
import { type ConnectError, type ContextValues, createContextValues, type HandlerContext } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { TakeStream } from "../listener/listener.ts";
import { type Accounting, closeCall, noteFailure, openCall } from "./accounting.ts";
import { FRAME_HEADER_BYTES } from "./body.ts";
import { type Call, callKey } from "./call.ts";
import { grantDeadline } from "./deadline.ts";
import { endAfterAnswer } from "./early-answer.ts";
import { canceled, deadlineExceeded, publicError } from "./errors.ts";
import { fromHeaders, toHeaders } from "./headers.ts";
import type { RateLimit } from "./overload.ts";
import { createRefuseAtOnce } from "./refuse-at-once.ts";
import { isFull, type Route, type Routes } from "./routes.ts";
import { admit, prepare } from "./steps.ts";
import { readMessage } from "./unary-message.ts";

export interface FastPathOptions extends Accounting {
  routes: Routes;
  rateLimit: RateLimit;
  /** Whether a full listener refuses whoever calls, known or not: the public one, whose paths are no secret. */
  refusesAtOnce: boolean;
}

type FastProtocol = "grpc" | "connect";

/** The media types of binary messages, and no other spelling of them. */
const PROTOCOLS = new Map<string | undefined, FastProtocol>([
  ["application/grpc", "grpc"],
  ["application/grpc+proto", "grpc"],
  ["application/proto", "connect"],
]);
/** An authority that is surely one; others are looked at as handler.ts looks at them. */
const PLAIN_AUTHORITY = /^(?:[\w-]+\.)*[a-z][\w-]*(?::\d{1,4})?$/i;

export function createFastPath(options: FastPathOptions): TakeStream {
  const { routes } = options;
  const refuseAtOnce = createRefuseAtOnce(options.metrics);
  return (stream, headers, rawHeaders, peer) => {
    const protocol = PROTOCOLS.get(headers["content-type"]);
    if (!protocol || !isPlain(headers)) return false;
    const route = routes.get(headers[":path"]!);
    if (route?.method.methodKind !== "unary") return false;
    const grantedMs = grantDeadline(headers, protocol === "grpc", route.limits);
    if (grantedMs === "malformed") return false;
    if (options.refusesAtOnce && isFull(route)) {
      refuseAtOnce(stream, protocol, route.method);
      return true;
    }
    const target = headers[":path"]!;
    const call = openCall({ httpMethod: "POST", target, headers, rawHeaders, peer, method: route.method }, options);
    call.protocol = protocol;
    options.metrics.fastPathTaken();
    new FastCall(stream, headers, route, call, options).begin(grantedMs);
    return true;
  };
}

/** No compression, no page of a browser, nothing that handler.ts would look at more closely. */
function isPlain(headers: http2.IncomingHttpHeaders): boolean {
  const { origin, ":method": method, ":authority": authority } = headers;
  const isIdentity = (name: string) => headers[name] === undefined || headers[name] === "identity";
  if (method !== "POST" || origin !== undefined || authority === undefined) return false;
  return isIdentity("grpc-encoding") && isIdentity("content-encoding") && isHost(authority);
}

function isHost(authority: string): boolean {
  return PLAIN_AUTHORITY.test(authority) || URL.canParse(`http://${authority}`);
}

/** One call from its headers to its answer; also the context that its handler gets, most of which is made when asked for. */
class FastCall implements HandlerContext {
  readonly requestMethod = "POST";
  readonly #stream: http2.ServerHttp2Stream;
  readonly #headers: http2.IncomingHttpHeaders;
  readonly #route: Route;
  readonly #call: Call;
  readonly #options: FastPathOptions;
  #deadline: NodeJS.Timeout | undefined;
  #endsAt = 0;
  /** Set when the call is over before it was answered. */
  #ended: ConnectError | undefined;
  #isAnswered = false;
  #abort: AbortController | undefined;
  #values: ContextValues | undefined;
  #requestHeader: Headers | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;

  constructor(
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    route: Route,
    call: Call,
    options: FastPathOptions,
  ) {
    this.#stream = stream;
    this.#headers = headers;
    this.#route = route;
    this.#call = call;
    this.#options = options;
  }

  get method() {
    return this.#route.method;
  }

  get service() {
    return this.#route.method.parent;
  }

  get protocolName(): string {
    return this.#call.protocol!;
  }

  get url(): string {
    const { ":scheme": scheme, ":authority": authority } = this.#headers;
    return `${scheme}://${authority}${this.#call.target}`;
  }

  get values(): ContextValues {
    this.#values ??= createContextValues().set(callKey, this.#call);
    return this.#values;
  }

  get signal(): AbortSignal {
    if (!this.#abort) {
      this.#abort = new AbortController();
      if (this.#ended) this.#abort.abort(this.#ended);
    }
    return this.#abort.signal;
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= toHeaders(this.#headers);
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers();
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  readonly timeoutMs = () => Math.floor(this.#endsAt - this.#options.clock.monotonic());

  begin(grantedMs: number): void {
    this.#endsAt = this.#call.startedAt + grantedMs;
    this.#deadline = setTimeout(() => this.#end(deadlineExceeded()), grantedMs);
    this.#stream.once("close", () => this.#close());
    this.#run().catch((thrown: unknown) => this.#refuse(publicError(thrown)));
  }

  async #run(): Promise<void> {
    const { service, limits, method, implementation } = this.#route;
    const refusal = this.#options.rateLimit(this.#call.peer.address);
    if (refusal) throw refusal;
    if (service) await admit(service, this.#route, this.#call);
    const message = await readMessage(this.#stream, this.#call, method.input, limits.messageBytes);
    await prepare(service, this.#call, message);
    if (this.#ended) return;
    this.#answer(await implementation(message, this));
  }

  #answer(output: unknown): void {
    if (this.#isAnswered || this.#stream.destroyed) return;
    const { output: schema } = this.#route.method;
    const bytes = toBinary(
      schema,
      isMessage(output, schema) ? output : create(schema, output as Record<string, unknown>),
    );
    if (this.#call.protocol === "grpc") this.#answerGrpc(bytes);
    else this.#answerConnect(200, "application/proto", bytes);
  }

  #answerGrpc(message: Uint8Array): void {
    const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + message.length);
    frame[0] = 0;
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, FRAME_HEADER_BYTES);
    this.#stream.respond(this.#responseHeaders(200, "application/grpc+proto"), { waitForTrailers: true });
    this.#isAnswered = true;
    this.#stream.once("wantTrailers", () => {
      try {
        this.#stream.sendTrailers({ ...fromHeaders(this.#responseTrailer), "grpc-status": "0" });
      } catch (fault) {
        this.#breakOff(fault);
      }
    });
    this.#stream.end(frame);
  }

  #answerConnect(status: number, contentType: string, body: Uint8Array): void {
    const headers = this.#responseHeaders(status, contentType);
    for (const [name, value] of this.#responseTrailer ?? []) headers[`trailer-${name}`] = value;
    headers["content-length"] = body.length;
    this.#stream.respond(headers);
    this.#isAnswered = true;
    this.#stream.end(body);
  }

  #responseHeaders(status: number, contentType: string): http2.OutgoingHttpHeaders {
    return {
      ...fromHeaders(this.#responseHeader),
      ":status": status,
      "content-type": contentType,
      "x-request-id": this.#call.requestId,
    };
  }

  #refuse(error: ConnectError): void {
    if (this.#isAnswered || this.#stream.destroyed) return;
    noteFailure(this.#call, error);
    try {
      this.#sendRefusal(error);
    } catch (fault) {
      this.#breakOff(fault);
      return;
    }
    endAfterAnswer(this.#stream); // what is left of the body is not to be read
  }

  #sendRefusal(error: ConnectError): void {
    if (this.#call.protocol === "grpc") {
      const headers = this.#responseHeaders(200, "application/grpc+proto");
      const status = setTrailerStatus(this.#responseTrailer ?? new Headers(), error);
      this.#stream.respond({ ...headers, ...fromHeaders(status) }, { endStream: true });
      this.#isAnswered = true;
    } else {
      for (const [name, value] of error.metadata) this.responseHeader.set(name, value);
      this.#answerConnect(codeToHttpStatus(error.code), "application/json", errorToJsonBytes(error, undefined));
    }
  }

  /** Headers or trailers of a handler's that cannot be sent: there is no other way left to say that we failed. */
  #breakOff(fault: unknown): void {
    noteFailure(this.#call, publicError(fault));
    this.#isAnswered = true;
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  /** Ends the call without its handler, which learns it from its signal. */
  #end(error: ConnectError): void {
    this.#ended = error;
    this.#refuse(error);
    this.#abort?.abort(error);
  }

  #close(): void {
    clearTimeout(this.#deadline);
    const isDelivered = this.#isAnswered && this.#stream.writableEnded;
    if (!this.#isAnswered) this.#end(canceled());
    closeCall(this.#call, isDelivered, this.#options);
  }
}
