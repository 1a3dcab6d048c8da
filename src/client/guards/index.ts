/**
 * concierge/guards: who may come in, for servers of other teams. Each guard asks the same client the same question, and answers
 * alike: 401 with WWW-Authenticate, 403, 503 with Retry-After; 500 for whatever else goes wrong.
 */
export type { Principal } from "../results.ts";
export {
  type ConnectGuard,
  type ConnectRule,
  type ConnectRules,
  connectGuard,
  principalOf,
  requirePermission,
  requireUser,
  rulesOf,
} from "./connect.ts";
export type { GuardClient, GuardOptions, Guards } from "./decision.ts";
export { type ExpressMiddleware, expressGuards } from "./express.ts";
export { type FastifyHook, fastifyGuards } from "./fastify.ts";
export { type HonoMiddleware, type HonoVariables, honoGuards } from "./hono.ts";
