/**
 * Plain HTTP paths for supervisors. /healthz answers while the process can answer at all; /readyz says whether it should be
 * sent calls. The public listener says no more than that; the internal one also says what is missing, and has /metrics.
 */

import type { NodeResponse, RequestHandler } from "../listener/listener.ts";
import { MAX_LAG_MS } from "../telemetry/event-loop.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { answerJson } from "./json.ts";

/** What keeps the process from being ready, one line each; empty when it is. */
export type Readiness = () => Promise<string[]>;

export interface ProbeOptions {
  /** Whether the answers say more than yes or no. */
  showReasons: boolean;
  /** What does not work though calls are answered, one line each. */
  degraded(): string[];
  metrics: Metrics;
}

export function probePaths(
  readiness: Readiness,
  { showReasons, degraded, metrics }: ProbeOptions,
): Record<string, RequestHandler> {
  const paths: Record<string, RequestHandler> = {
    "/healthz": (_, response) => answerJson(response, 200, { status: "alive" }),
    "/readyz": (_, response) => {
      readiness()
        .then((reasons) => {
          const missing = [...heldUp(metrics), ...reasons];
          const body = {
            status: missing.length === 0 ? "ready" : "not ready",
            ...(showReasons && { missing, ...shown(degraded()) }),
          };
          answerJson(response, missing.length === 0 ? 200 : 503, body);
        })
        .catch(() => response.destroy());
    },
  };
  if (showReasons) paths["/metrics"] = (_, response) => answerMetrics(response, metrics);
  return paths;
}

/** Only when there is something to say. */
function shown(degraded: string[]): { degraded?: string[] } {
  return degraded.length > 0 ? { degraded } : {};
}

/** A process that does not come to its work in time would only make callers wait. */
function heldUp(metrics: Metrics): string[] {
  const lagMs = metrics.loopLagMs();
  return lagMs > MAX_LAG_MS ? [`the event loop was held up for ${Math.round(lagMs)} ms`] : [];
}

function answerMetrics(response: NodeResponse, metrics: Metrics): void {
  metrics
    .text()
    .then((text) => {
      response.setHeader("content-type", metrics.contentType);
      response.end(text);
    })
    .catch(() => response.destroy());
}
