/** concierge/client for Node: what other teams call Concierge with. */
export { Code } from "@connectrpc/connect";
export { type Reason, reasonOf } from "../errors.ts";
export type { Subject } from "../rights/rights.ts";
export type { SimpleLog } from "../simple-log.ts";
export type { ServiceKey } from "../token/service-token.ts";
export type { WhenStale } from "../token/session-check.ts";
export {
  type AuthClient,
  type AuthClientOptions,
  type AuthorizeOptions,
  createAuthClient,
  type Fault,
} from "./auth-client.ts";
export type { ServiceUrls } from "./connections.ts";
export * from "./node-session.ts";
export type { PermissionQuestion } from "./permissions.ts";
export type { RedisAddress } from "./redis-rights.ts";
export type { LocalPermissions, Organization, Principal, UserPermissions, VerifiedToken } from "./results.ts";
