/** Plain HTTP answers. */
import type { NodeResponse } from "../listener/listener.ts";

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
