/**
 * Plain HTTP paths for supervisors. /healthz answers while the process can answer at all; /readyz says whether it should be
 * sent calls. The public listener says no more than that; the internal one also says what is missing.
 */
import type { NodeResponse, PlainHandler } from "./handler.ts";

/** What keeps the process from being ready, one line each; empty when it is. */
export type Readiness = () => Promise<string[]>;

export function probePaths(
  readiness: Readiness,
  { showReasons }: { showReasons: boolean },
): Record<string, PlainHandler> {
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

/** Ends a plain HTTP answer with a JSON body. */
export function answerJson(
  response: NodeResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = JSON.stringify(body);
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.setHeader("content-type", "application/json");
  response.statusCode = status;
  response.end(text);
}
