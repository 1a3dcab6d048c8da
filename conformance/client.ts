/**
 * The client under test: connections as the project's services make them to each other (gRPC over HTTP/2). The runner says
 * on stdin which calls to make of its own server, and reads on stdout what was seen of each.
 */
import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import {
  type ClientCompatRequest,
  ClientCompatRequestSchema,
  type ClientCompatResponse,
  ClientCompatResponseSchema,
  ClientResponseResultSchema,
} from "../.concierge/conformance/connectrpc/conformance/v1/client_compat_pb.ts";
import { StreamType } from "../.concierge/conformance/connectrpc/conformance/v1/config_pb.ts";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  type ConformancePayload,
  ConformancePayloadSchema,
  ConformanceService,
  type Header,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  UnaryRequestSchema,
  UnimplementedRequestSchema,
} from "../.concierge/conformance/connectrpc/conformance/v1/service_pb.ts";
import { connectService } from "../src/client/service-client.ts";
import { systemClock as clock } from "../src/clock.ts";
import { reasonOf } from "../src/errors.ts";
import { createServiceKey } from "../src/token/key-making.ts";
import { appendHeaders, errorToSuite, framed, headersToSuite, readMessages } from "./wire.ts";

/** What an answer of any of the methods may hold. */
interface Answer {
  payload?: ConformancePayload;
}

const CALLS_AT_ONCE = 8;

const key = createServiceKey("conformance-client", "conformance-server", "service");

async function answer(request: ClientCompatRequest): Promise<ClientCompatResponse> {
  const { testName } = request;
  try {
    const value = await new RequestedCall(request).make();
    return create(ClientCompatResponseSchema, { testName, result: { case: "response", value } });
  } catch (thrown) {
    const message = String((thrown as Error)?.stack ?? thrown);
    return create(ClientCompatResponseSchema, { testName, result: { case: "error", value: { message } } });
  }
}

/** One call, made and ended as the runner asks. */
class RequestedCall {
  readonly #request: ClientCompatRequest;
  readonly #startedAt = clock.monotonic();
  readonly #abort = new AbortController();
  readonly #payloads: ConformancePayload[] = [];
  #headers: Header[] = [];
  #trailers: Header[] = [];
  #unsent: number;
  #answered = Promise.withResolvers<void>();

  constructor(request: ClientCompatRequest) {
    this.#request = request;
    this.#unsent = request.requestMessages.length;
  }

  async make() {
    const { host, port, serverTlsCert } = this.#request;
    const ca = serverTlsCert.length > 0 ? Buffer.from(serverTlsCert).toString() : undefined;
    const baseUrl = `${ca === undefined ? "http" : "https"}://${host}:${port}`;
    using connection = connectService({ baseUrl, ca, key, clock });
    const error = await this.#call(connection.client(ConformanceService)).then(
      () => undefined,
      (thrown: unknown) => this.#asItHappened(ConnectError.from(thrown)),
    );
    // Metadata of an error are headers and trailers in one.
    if (error && this.#headers.length === 0) this.#headers = headersToSuite(error.metadata);
    return create(ClientResponseResultSchema, {
      responseHeaders: this.#headers,
      payloads: this.#payloads,
      error: error && errorToSuite(error),
      responseTrailers: error ? headersToSuite(error.metadata) : this.#trailers,
      numUnsentRequests: this.#unsent,
    });
  }

  async #call(client: Client<typeof ConformanceService>): Promise<void> {
    const options = this.#options();
    switch (this.#request.method) {
      case "Unary":
        return this.#take(await client.unary(await this.#only(UnaryRequestSchema), options));
      case "IdempotentUnary":
        return this.#take(await client.idempotentUnary(await this.#only(IdempotentUnaryRequestSchema), options));
      case "Unimplemented":
        await client.unimplemented(await this.#only(UnimplementedRequestSchema), options);
        return;
      case "ClientStream":
        return this.#take(await client.clientStream(this.#requests(ClientStreamRequestSchema), options));
      case "ServerStream":
        return this.#takeAll(client.serverStream(await this.#only(ServerStreamRequestSchema), options));
      case "BidiStream":
        return this.#takeAll(client.bidiStream(this.#requests(BidiStreamRequestSchema), options));
      default:
        throw new Error(`no method ${this.#request.method}`);
    }
  }

  #options(): CallOptions {
    const headers = new Headers();
    appendHeaders(headers, this.#request.requestHeaders);
    return {
      headers,
      timeoutMs: this.#request.timeoutMs ?? 0, // none; services have one for every call
      signal: this.#abort.signal,
      onHeader: (received) => {
        this.#headers = headersToSuite(received);
      },
      onTrailer: (received) => {
        this.#trailers = headersToSuite(received);
      },
    };
  }

  /** The request of a method that takes one. The client sends it and ends its side in one step. */
  async #only<Desc extends DescMessage>(schema: Desc): Promise<MessageShape<Desc>> {
    await delay(this.#request.requestDelayMs);
    this.#unsent = 0;
    this.#cancelAfterClosing();
    return fromBinary(schema, this.#request.requestMessages[0]!.value);
  }

  /** The requests of a stream; full duplex means to await an answer to each of them. */
  async *#requests<Desc extends DescMessage>(schema: Desc): AsyncGenerator<MessageShape<Desc>> {
    const { requestMessages, requestDelayMs, streamType, cancel } = this.#request;
    for (const { value } of requestMessages) {
      await delay(requestDelayMs);
      this.#unsent--;
      yield fromBinary(schema, value);
      if (streamType === StreamType.FULL_DUPLEX_BIDI_STREAM) await this.#answered.promise;
    }
    if (cancel?.cancelTiming.case === "beforeCloseSend") this.#abort.abort();
    else this.#cancelAfterClosing();
  }

  #cancelAfterClosing(): void {
    const timing = this.#request.cancel?.cancelTiming;
    if (!timing || timing.case === "afterNumResponses") return;
    setTimeout(() => this.#abort.abort(), timing.case === "afterCloseSendMs" ? timing.value : 0);
  }

  async #takeAll(answers: AsyncIterable<Answer>): Promise<void> {
    for await (const answer of answers) this.#take(answer);
  }

  #take({ payload = create(ConformancePayloadSchema) }: Answer): void {
    this.#payloads.push(payload);
    this.#answered.resolve();
    this.#answered = Promise.withResolvers();
    const timing = this.#request.cancel?.cancelTiming;
    if (timing?.case === "afterNumResponses" && timing.value === this.#payloads.length) this.#abort.abort();
  }

  /**
   * Callers are told that a service behind this one does not answer, whatever became of the connection or the deadline; the
   * suite asks for what happened, which is the cause. A server may see the end of the deadline first, and cancel the call.
   */
  #asItHappened(error: ConnectError): ConnectError {
    if (error.isWireError) return error;
    const cause = reasonOf(error) === "DEPENDENCY_UNAVAILABLE" ? ConnectError.from(error.cause) : error;
    if (cause.code !== Code.Canceled || this.#abort.signal.aborted) return cause;
    const isLate = clock.monotonic() - this.#startedAt >= (this.#request.timeoutMs ?? Number.POSITIVE_INFINITY);
    return isLate ? new ConnectError("the deadline has passed", Code.DeadlineExceeded) : cause;
  }
}

/** One worker of several: makes call after call. */
async function work(requests: AsyncIterator<ClientCompatRequest>): Promise<void> {
  for (;;) {
    const next = await requests.next();
    if (next.done) return;
    process.stdout.write(framed(ClientCompatResponseSchema, await answer(next.value)));
  }
}

const requests = readMessages(process.stdin, ClientCompatRequestSchema)[Symbol.asyncIterator]();
await Promise.all(Array.from({ length: CALLS_AT_ONCE }, () => work(requests)));
