/**
 * Plain HTTP paths for supervisors. /healthz answers while the process can answer at all; /readyz says whether it should be
 * sent calls. The public listener says no more than that; the internal one also says what is missing.
 */
import { answerJson } from "./json.ts";
import type { RequestHandler } from "./listener.ts";

/** What keeps the process from being ready, one line each; empty when it is. */
export type Readiness = () => Promise<string[]>;

export function probePaths(
  readiness: Readiness,
  { showReasons }: { showReasons: boolean },
): Record<string, RequestHandler> {
  return {
    "/healthz": (_, response) => answerJson(response, 200, { status: "alive" }),
    "/readyz": (_, response) => {
      readiness()
        .then((missing) => {
          const body = { status: missing.length === 0 ? "ready" : "not ready", ...(showReasons ? { missing } : {}) };
          answerJson(response, missing.length === 0 ? 200 : 503, body);
        })
        .catch(() => response.destroy());
    },
  };
}
