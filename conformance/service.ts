/**
 * The suite's own service, written as a service of this project would be: what it throws is released to clients. Each
 * call says in its first message what to answer, and gets back what was seen of it.
 */
import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type DescService, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import type { ConnectError, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  type ConformancePayload,
  type ConformancePayload_RequestInfo,
  ConformancePayload_RequestInfoSchema,
  ConformancePayloadSchema,
  ConformanceService,
  HeaderSchema,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  type StreamResponseDefinition,
  type Error as SuiteError,
  UnaryRequestSchema,
  type UnaryResponseDefinition,
} from "../.concierge/conformance/connectrpc/conformance/v1/service_pb.ts";
import { releaseToClients } from "../src/errors.ts";
import { callOf } from "../src/rpc/call.ts";
import type { Implementation } from "../src/service.ts";
import { appendHeaders, errorFromSuite, headersToSuite } from "./wire.ts";

/** `Unimplemented` is left out, as the suite asks. */
const implementation: Partial<ServiceImpl<typeof ConformanceService>> = {
  async unary(request, context) {
    return { payload: await answerOnce(request.responseDefinition, [pack(UnaryRequestSchema, request)], context) };
  },
  async idempotentUnary(request, context) {
    const requests = [pack(IdempotentUnaryRequestSchema, request)];
    return { payload: await answerOnce(request.responseDefinition, requests, context) };
  },
  async clientStream(requests, context) {
    let definition: UnaryResponseDefinition | undefined;
    const seen: Any[] = [];
    for await (const request of requests) {
      if (seen.length === 0) definition = request.responseDefinition;
      seen.push(pack(ClientStreamRequestSchema, request));
    }
    return { payload: await answerOnce(definition, seen, context) };
  },
  async *serverStream(request, context) {
    const answer = new StreamAnswer(request.responseDefinition, context);
    yield* answer.rest([pack(ServerStreamRequestSchema, request)]);
  },
  async *bidiStream(requests, context) {
    let answer: StreamAnswer | undefined;
    let isFullDuplex = false;
    let seen: Any[] = [];
    for await (const request of requests) {
      if (!answer) {
        answer = new StreamAnswer(request.responseDefinition, context);
        isFullDuplex = request.fullDuplex;
      }
      seen.push(pack(BidiStreamRequestSchema, request));
      if (!isFullDuplex) continue;
      if (answer.isOver) break;
      yield { payload: await answer.next(seen) };
      seen = [];
    }
    if (answer) yield* answer.rest(seen);
  },
};

export const conformanceService: Implementation = {
  desc: ConformanceService,
  implementation: implementation as ServiceImpl<DescService>,
};

async function answerOnce(
  definition: UnaryResponseDefinition | undefined,
  requests: Any[],
  context: HandlerContext,
): Promise<ConformancePayload> {
  appendHeaders(context.responseHeader, definition?.responseHeaders);
  appendHeaders(context.responseTrailer, definition?.responseTrailers);
  const requestInfo = requestInfoOf(context, requests);
  await delay(definition?.responseDelayMs ?? 0);
  const response = definition?.response;
  if (response?.case === "error") throw errorOf(response.value, requestInfo);
  return create(ConformancePayloadSchema, { requestInfo, data: response?.value });
}

/** What is left to send of the answers that a stream's first message asks for. */
class StreamAnswer {
  readonly #definition: StreamResponseDefinition | undefined;
  readonly #context: HandlerContext;
  #sent = 0;

  /** Headers and trailers are set at once. */
  constructor(definition: StreamResponseDefinition | undefined, context: HandlerContext) {
    this.#definition = definition;
    this.#context = context;
    appendHeaders(context.responseHeader, definition?.responseHeaders);
    appendHeaders(context.responseTrailer, definition?.responseTrailers);
  }

  get isOver(): boolean {
    return this.#sent >= (this.#definition?.responseData.length ?? 0);
  }

  /** The next answer; the first one, and every one that has new requests to tell of, tells of them. */
  async next(requests: Any[]): Promise<ConformancePayload> {
    await delay(this.#definition?.responseDelayMs ?? 0);
    const data = this.#definition?.responseData[this.#sent];
    const tells = this.#sent === 0 || requests.length > 0;
    this.#sent++;
    return create(ConformancePayloadSchema, {
      data,
      requestInfo: tells ? requestInfoOf(this.#context, requests) : undefined,
    });
  }

  /** Everything that is left, then the error if there is to be one. */
  async *rest(requests: Any[]): AsyncGenerator<{ payload: ConformancePayload }> {
    const isFirst = this.#sent === 0;
    while (!this.isOver) yield { payload: await this.next(this.#sent === 0 ? requests : []) };
    const error = this.#definition?.error;
    if (!error) return;
    const nothingSent = isFirst && this.#sent === 0;
    throw errorOf(error, nothingSent ? requestInfoOf(this.#context, requests) : undefined);
  }
}

function errorOf(error: SuiteError, requestInfo: ConformancePayload_RequestInfo | undefined): ConnectError {
  const details = requestInfo ? [pack(ConformancePayload_RequestInfoSchema, requestInfo)] : [];
  return releaseToClients(errorFromSuite({ ...error, details: [...error.details, ...details] }));
}

function requestInfoOf(context: HandlerContext, requests: Any[]): ConformancePayload_RequestInfo {
  const query = context.requestMethod === "GET" ? new URL(context.url).searchParams : undefined;
  return create(ConformancePayload_RequestInfoSchema, {
    requests,
    requestHeaders: headersToSuite(context.requestHeader),
    timeoutMs: sentTimeout(context) ? BigInt(Math.ceil(context.timeoutMs()!)) : undefined,
    connectGetInfo: query && {
      queryParams: Array.from(query, ([name, value]) => create(HeaderSchema, { name, value: [value] })),
    },
  });
}

/** Whether the client named a deadline: every call has one here, but the suite wants to hear of the client's only. */
function sentTimeout({ values }: HandlerContext): boolean {
  return callOf(values).rawHeaders.some((name) => /^(grpc-timeout|connect-timeout-ms)$/i.test(name));
}

function pack<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): Any {
  return anyPack(desc, message);
}
