/** Guards as middleware of Hono, wherever that runs: new Hono<{ Variables: HonoVariables }>(). */
import type { Principal } from "../results.ts";
import { admit, type GuardClient, type Guards, guardsBy, linesOf, refusalOf } from "./decision.ts";

/** What the guards set. */
export interface HonoVariables {
  principal: Principal;
}

interface HonoContext {
  req: { raw: Request };
  set(name: "principal", value: Principal): void;
}

export type HonoMiddleware = (context: HonoContext, next: () => Promise<void>) => Promise<Response | undefined>;

/** Each sets the principal: `context.get("principal")`. */
export function honoGuards(auth: GuardClient): Guards<HonoMiddleware> {
  return guardsBy((rule) => async (context, next) => {
    try {
      context.set("principal", await admit(auth, rule, linesOf(context.req.raw.headers)));
    } catch (refused) {
      const { status, headers, body } = refusalOf(refused);
      return new Response(body, { status, headers });
    }
    await next();
    return undefined;
  });
}
