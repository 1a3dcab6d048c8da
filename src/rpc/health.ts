/**
 * The standard health service, grpc.health.v1: what balancers, Kubernetes probes and gRPC clients ask before they send
 * calls. Nothing is said to be serving until somebody says so, and the public listener shows the overall status only.
 */
import { Code, type ServiceImpl } from "@connectrpc/connect";
import { type Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { fail } from "../errors.ts";

/** The name under which the health of the whole process is asked for. */
const OVERALL = "";

export interface HealthStatus {
  /** Answers for the process (the name "") and for each service by its name. */
  readonly implementation: ServiceImpl<typeof Health>;
  /** The same, for listeners open to everybody: every name but "" is unknown. */
  readonly overallOnly: ServiceImpl<typeof Health>;
  /** Says whether one service, or the process ("") takes calls. Throws for a name that createHealth() was not given. */
  setServing(name: string, serving: boolean): void;
  /** Says it for the process and every service: at the end of the start, and first thing when stopping. */
  setAll(serving: boolean): void;
}

/** Keeps the status of the process and of the named services (full names, "concierge.auth.v1.AuthService"). */
export function createHealth(names: string[]): HealthStatus {
  const allNames = [OVERALL, ...names];
  const statuses = new Map<string, Status>(allNames.map((name) => [name, Status.NOT_SERVING]));
  const watchers = new Set<() => void>();
  const set = (changedNames: string[], serving: boolean) => {
    for (const name of changedNames) statuses.set(name, serving ? Status.SERVING : Status.NOT_SERVING);
    for (const wake of [...watchers]) wake();
  };
  return {
    implementation: implementHealth(statuses, allNames, watchers),
    overallOnly: implementHealth(statuses, [OVERALL], watchers),
    setServing(name, serving) {
      if (!statuses.has(name)) throw new Error(`health of an unknown service: ${name}`);
      set([name], serving);
    },
    setAll: (serving) => set(allNames, serving),
  };
}

/** Answers for the visible names only; `watchers` are called after every change. */
function implementHealth(
  statuses: ReadonlyMap<string, Status>,
  visibleNames: string[],
  watchers: Set<() => void>,
): ServiceImpl<typeof Health> {
  const statusOf = (name: string) => (visibleNames.includes(name) ? statuses.get(name) : undefined);
  return {
    check(request) {
      const status = statusOf(request.service);
      if (status === undefined) throw fail(Code.NotFound, "NOT_FOUND", "unknown service");
      return { status };
    },
    list: () => ({ statuses: Object.fromEntries(visibleNames.map((name) => [name, { status: statusOf(name) }])) }),
    async *watch(request, { signal }) {
      let sent: Status | undefined;
      while (!signal.aborted) {
        const status = statusOf(request.service) ?? Status.SERVICE_UNKNOWN;
        if (status === sent) {
          await nextChange(watchers, signal);
          continue;
        }
        sent = status;
        yield { status }; // what changes while this is being sent is seen in the next round
      }
      signal.throwIfAborted(); // so that the client learns why: draining, or its own deadline
    },
  };
}

/** Resolves at the next change, or when the call ends; leaves nothing behind in either. */
function nextChange(watchers: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      watchers.delete(wake);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    watchers.add(wake);
    signal.addEventListener("abort", wake);
  });
}
