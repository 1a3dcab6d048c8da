/** Guards as middleware of Express, and of whatever else takes (request, response, next) over node:http. */
import type { Principal } from "../results.ts";
import { admit, type GuardClient, type Guards, guardsBy, refusalOf } from "./decision.ts";

declare global {
  // What Express's own types are open for.
  namespace Express {
    interface Request {
      /** Who sends the request; there behind a guard. */
      principal?: Principal;
    }
  }
}

interface ExpressRequest {
  rawHeaders: string[];
  principal?: Principal;
}

interface ExpressResponse {
  statusCode: number;
  readonly headersSent: boolean;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

export type ExpressMiddleware = (request: ExpressRequest, response: ExpressResponse, next: () => void) => Promise<void>;

/** Each sets the principal: `request.principal`. */
export function expressGuards(auth: GuardClient): Guards<ExpressMiddleware> {
  return guardsBy((rule) => async (request, response, next) => {
    try {
      request.principal = await admit(auth, rule, request.rawHeaders);
    } catch (refused) {
      // Something that waits only so long has answered.
      if (response.headersSent) return;
      const { status, headers, body } = refusalOf(refused);
      response.statusCode = status;
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
      response.end(body);
      return;
    }
    next();
  });
}
