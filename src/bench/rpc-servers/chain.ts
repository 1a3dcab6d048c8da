/**
 * The steps of our server as functions, for the servers that ours is compared with: they hang the same work, done by the same
 * code wherever there is such code, into their own interceptors. What they log must have the fields of our own access log; the
 * benchmark compares them.
 */
import { systemClock as clock } from "../../clock.ts";
import { Code } from "../../errors.ts";
import { createLogger } from "../../log.ts";
import { type AccessRule, accessRule } from "../../rpc/access.ts";
import { newRequestId } from "../../rpc/accounting.ts";
import { createMetrics } from "../../telemetry/metrics.ts";
import { type CallTrace, createTracing } from "../../telemetry/traces.ts";
import { createAccessTokenVerifier } from "../../token/access-token.ts";
import { fixedKeyRing } from "../../token/key-ring.ts";
import { ISSUER, METHOD, PROCEDURE, sessionsInMemory, type Task } from "./task.ts";

const BEARER = /^Bearer ([^\s]+)$/i;
/** The default and the longest deadline of our server. */
export const DEFAULT_DEADLINE_MS = 10_000;
export const MAXIMUM_DEADLINE_MS = 60_000;
const MAXIMUM_NAME_LENGTH = 100;

export interface ChainCall {
  readonly requestId: string;
  readonly procedure: string;
  readonly startedAt: number;
  trace?: CallTrace;
  caller?: string;
}

/** What the steps want of a request's headers. */
export interface ChainHeaders {
  /** Every value that was sent. */
  authorization: readonly unknown[];
  traceparent: string | undefined;
}

export type Chain = Awaited<ReturnType<typeof createChain>>;

export async function createChain(task: Task) {
  const verifyAccessToken = createAccessTokenVerifier(fixedKeyRing(task.keys), { issuer: ISSUER, clock });
  const checkSession = sessionsInMemory(task);
  const log = createLogger({ level: "info", mode: "production" });
  const metrics = createMetrics({ log });
  const tracing = await createTracing({ url: undefined, ratio: 1, serviceName: "bench", clock, log });
  const rules = new Map<string, AccessRule>([[PROCEDURE, accessRule(METHOD)]]);

  return {
    begin(procedure: string): ChainCall {
      metrics.callStarted();
      return { requestId: newRequestId(), procedure, startedAt: clock.monotonic() };
    },

    /** Whether this caller may call; notes on the call who it is. */
    async admit(call: ChainCall, { authorization, traceparent }: ChainHeaders): Promise<boolean> {
      call.trace = tracing.begin(METHOD, { traceparent }, { isTrusted: false });
      const rule = rules.get(call.procedure);
      if (rule?.who !== "user") return rule?.who === "public";
      const token = authorization.length === 1 ? BEARER.exec(String(authorization[0]))?.[1] : undefined;
      if (token === undefined) return false;
      const verified = verifyAccessToken(token);
      if (!verified.ok || !(await checkSession(verified.claims, rule.whenStale))) return false;
      call.caller = `user ${verified.claims.userId}`;
      return true;
    },

    end({ requestId, procedure, startedAt, trace, caller }: ChainCall, code?: Code): void {
      const durationMs = clock.monotonic() - startedAt;
      metrics.callEnded({ method: METHOD, protocol: "grpc", code, durationMs });
      trace?.end(code);
      const line = {
        requestId,
        traceId: trace?.traceId,
        procedure,
        protocol: "grpc",
        caller,
        code: code === undefined ? "ok" : Code[code],
        durationMs: Math.round(durationMs * 1000) / 1000,
      };
      log.info(line, "call");
    },

    metrics: () => metrics.text(),
  };
}

/** The contract's rule for a name (1 to 100 code points), and ours for every text: it can be stored as it is. */
export function isGoodName(name: string): boolean {
  if (name.length === 0 || name.includes("\0") || !name.isWellFormed()) return false;
  return name.length <= MAXIMUM_NAME_LENGTH || [...name].length <= MAXIMUM_NAME_LENGTH;
}
