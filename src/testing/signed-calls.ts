/** Calls of internal methods that are signed right unless told otherwise, over any wire. */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type { DescMessage, DescMethodUnary, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "../errors.ts";
import { services } from "../services.ts";
import { messageDigest, SERVICE_TOKEN_HEADER } from "../token/service-token.ts";
import { type Forgery, forgeServiceToken } from "./forged-service-token.ts";
import type { HeaderLine } from "./http.ts";
import type { TestSystem } from "./system.ts";
import { callWire, encodeMessage, type Wire, type WireAnswer } from "./wire.ts";

const LOG_TIMEOUT_MS = 2_000;

type Method<I extends DescMessage, O extends DescMessage> = DescMethodUnary<I, O>;

/** "/package.Service/Method" */
export function procedureOf({ parent, name }: { parent: DescService; name: string }): string {
  return `/${parent.typeName}/${name}`;
}

/** Name of the service that has a method. */
export function calleeOf({ parent }: { parent: DescService }): string {
  return services.find((definition) => definition.services.includes(parent))!.name;
}

export interface SignedCall<I extends DescMessage, O extends DescMessage> {
  method: Method<I, O>;
  /** Bytes are sent and digested as they are. */
  message?: MessageInitShape<I> | Uint8Array;
  /** "backend" unless told otherwise. */
  caller?: string;
  /** What to sign otherwise than right. */
  forgery?: Partial<Forgery>;
  /** Instead of a token made for this call. */
  token?: string;
  headers?: readonly HeaderLine[];
  /** Instead of the internal listener of the system. */
  baseUrl?: string;
  path?: string;
  body?: Uint8Array;
  httpMethod?: string;
  frameFlags?: number;
}

/** A token that is right for the call. */
export function tokenFor<I extends DescMessage, O extends DescMessage>(
  system: TestSystem,
  wire: Wire,
  { method, message, caller = "backend", forgery }: SignedCall<I, O>,
): string {
  const empty = {} as MessageInitShape<I>;
  const bytes = message instanceof Uint8Array ? message : encodeMessage(wire, method.input, message ?? empty);
  return forgeServiceToken({
    key: system.keyOf(caller, calleeOf(method)),
    clock: system.clock,
    procedure: procedureOf(method),
    digest: messageDigest(bytes),
    ...forgery,
  });
}

export function callSigned<I extends DescMessage, O extends DescMessage>(
  system: TestSystem,
  wire: Wire,
  call: SignedCall<I, O>,
): Promise<WireAnswer<O>> {
  const { method, message, headers = [], baseUrl = system.internalUrl, path, body, httpMethod, frameFlags } = call;
  const token = call.token ?? tokenFor(system, wire, call);
  return callWire(wire, baseUrl, {
    method,
    headers: [[SERVICE_TOKEN_HEADER, token], ...headers],
    ...(message === undefined ? {} : { message }),
    ...(path === undefined ? {} : { path }),
    ...(body === undefined ? {} : { body }),
    ...(httpMethod === undefined ? {} : { httpMethod }),
    ...(frameFlags === undefined ? {} : { frameFlags }),
  });
}

/** The one answer to everybody who is not known. */
export function assertUnauthenticated(
  { status, code, message, reason }: WireAnswer<DescMessage>,
  wire: Wire,
  what: string,
  expectedReason = "UNAUTHENTICATED",
): void {
  assert.deepEqual(
    { status, code, message, reason },
    {
      status: wire.protocol === "connect" ? 401 : 200,
      code: Code.Unauthenticated,
      message: "unauthenticated",
      reason: expectedReason,
    },
    what,
  );
}

export function assertAnswered(answer: WireAnswer<DescMessage>, what: string): void {
  assert.equal(answer.code, undefined, `${what}: ${answer.message}`);
  assert.ok(answer.answer, what);
}

/** Why a call was refused, as its log line says; the line is written a moment after the answer. */
export async function loggedRefusal(system: TestSystem, { headers }: WireAnswer<DescMessage>): Promise<unknown> {
  const requestId = headers.find(([name]) => name === "x-request-id")?.[1];
  assert.ok(requestId, "the answer has no request id");
  for (const deadline = performance.now() + LOG_TIMEOUT_MS; performance.now() < deadline; await setImmediate()) {
    const line = system.logLines.findLast((candidate) => candidate.requestId === requestId);
    if (line) return line.refusal;
  }
  throw new Error("the call was not logged");
}
