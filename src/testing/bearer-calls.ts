/**
 * Calls of the public API with bearer tokens, good and bad, over every wire. A refusal must look exactly like that of a call
 * without any credential, leave nothing behind, and say in the log why it was made.
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type { DescMessage, DescMethodUnary } from "@bufbuild/protobuf";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { Code } from "../errors.ts";
import type { Refusal } from "../token/compact.ts";
import type { HeaderLine } from "./http.ts";
import { assertNoStateChange } from "./state.ts";
import type { TestSystem } from "./system.ts";
import { allWires, callWire, type Wire, type WireAnswer, wireName } from "./wire.ts";

type Method = DescMethodUnary<DescMessage, DescMessage>;

/** A wire, and whether the message travels in the body or in the query. */
export interface Shape {
  wire: Wire;
  httpMethod: "POST" | "GET";
}

/** Header lines that must be refused, and what the log must say of them. */
export interface Case {
  what: string;
  headers: HeaderLine[];
  why: Refusal;
}

export const DATABASES = ["auth", "access", "user"];
const LOG_WAIT_MS = 5_000;
export const shapes: Shape[] = [
  ...allWires.map((wire) => ({ wire, httpMethod: "POST" as const })),
  ...allWires.filter(({ protocol }) => protocol === "connect").map((wire) => ({ wire, httpMethod: "GET" as const })),
];
export const hello = { method: GreeterService.method.sayHello as Method, message: { name: "Ann" } };
export const me = { method: UserService.method.getMe as Method, message: {} };
export const checkSession = {
  method: AuthInternalService.method.checkSession as Method,
  message: { sessionId: "01a2004c-fce2-767b-8621-7bf85eb0036e", generation: 0 },
};
export type Target = typeof hello | typeof me | typeof checkSession;

export const bearer = (token: string): HeaderLine[] => [["authorization", `Bearer ${token}`]];

/** What a caller can see of a refusal, without the two headers that differ in every answer. */
function visible({ status, headers, trailers, body }: WireAnswer<DescMessage>) {
  const same = headers.filter(([name]) => name !== "date" && name !== "x-request-id");
  return { status, headers: same, trailers, body: body.toString("latin1") };
}

/** Keeps what was sent, so that the log can be searched for it. */
export class BearerCalls {
  readonly sentTokens = new Set<string>();
  readonly #system: TestSystem;
  readonly #references = new Map<string, Promise<ReturnType<typeof visible>>>();

  constructor(system: TestSystem) {
    this.#system = system;
  }

  send(target: Target, { wire, httpMethod }: Shape, headers: HeaderLine[], path?: string) {
    for (const [, value] of headers) this.sentTokens.add(value.replace(/^Bearer /i, ""));
    const baseUrl = target === checkSession ? this.#system.internalUrl : this.#system.publicUrl;
    return callWire(wire, baseUrl, { ...target, httpMethod, headers, path });
  }

  async assertRefused(target: Target, shape: Shape, { what, headers, why }: Case): Promise<void> {
    const where = `${what}, ${target.method.name}, ${shape.httpMethod} ${wireName(shape.wire)}`;
    const answer = await this.send(target, shape, headers);
    assert.equal(answer.code, Code.Unauthenticated, where);
    assert.equal(answer.message, "unauthenticated", where);
    assert.equal(answer.reason, "UNAUTHENTICATED", where);
    assert.deepEqual(visible(answer), await this.#reference(target, shape), where);
    const requestId = answer.headers.find(([name]) => name === "x-request-id")![1];
    assert.equal(await this.#refusalInLog(requestId), why, where);
  }

  /**
   * Sends the cases to greeter, the first in every shape, the others in `shapesEach` shapes that change from case to case;
   * and to user, whose steps are the same but another instance, in one. Nothing gets in, nothing is stored.
   */
  async assertRefusedEverywhere(cases: Case[], shapesEach = shapes.length): Promise<void> {
    const act = async () => {
      for (const [index, one] of cases.entries()) {
        const count = index === 0 ? shapes.length : shapesEach;
        const some = Array.from({ length: count }, (_, next) => shapes[(index * count + next) % shapes.length]!);
        await Promise.all([
          ...some.map((shape) => this.assertRefused(hello, shape, one)),
          this.assertRefused(me, shapes[index % shapes.length]!, one),
        ]);
      }
    };
    await assertNoStateChange(this.#system, act, DATABASES);
  }

  async assertAccepted(headers: HeaderLine[], targets: Target[] = [hello, me]): Promise<void> {
    const all = targets.flatMap((target) => shapes.map((shape) => ({ target, shape })));
    const one = async ({ target, shape }: (typeof all)[number]) => {
      const { code, message } = await this.send(target, shape, headers);
      assert.equal(code, undefined, `${target.method.name}, ${shape.httpMethod} ${wireName(shape.wire)}: ${message}`);
    };
    await Promise.all(all.map(one));
  }

  /** The refusal of a call without any credential. */
  #reference(target: Target, shape: Shape): Promise<ReturnType<typeof visible>> {
    const name = `${target.method.name} ${shape.httpMethod} ${wireName(shape.wire)}`;
    const known = this.#references.get(name) ?? this.send(target, shape, []).then(visible);
    this.#references.set(name, known);
    return known;
  }

  /** The line is written when the response is closed, which may be after the caller has read it. */
  async #refusalInLog(requestId: string): Promise<unknown> {
    const giveUpAt = performance.now() + LOG_WAIT_MS;
    for (;;) {
      const line = this.#system.logLines.findLast((candidate) => candidate.requestId === requestId);
      if (line) return line.refusal;
      assert.ok(performance.now() < giveUpAt, `no log line for ${requestId}`);
      await setImmediate();
    }
  }
}
