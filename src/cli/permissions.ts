/**
 * `concierge permissions`: the names of all permissions that methods ask for, as a TypeScript union. Written to gen/permissions.ts, it
 * makes a name that no method has fail to compile, and a permission that access cannot describe, too.
 */
import { accessRule } from "../rpc/access.ts";
import { services } from "../services.ts";
import type { Host } from "./host.ts";

/** Not asked for by a method as a whole: what these give depends on whom a call is about. */
const OF_SINGLE_CALLS = ["profiles:read", "profiles:update"];

export function printPermissions(host: Host): void {
  const rules = services.flatMap((service) => service.services.flatMap((desc) => desc.methods.map(accessRule)));
  const asked = rules.flatMap((rule) => (rule.who === "permission" ? [rule.permission] : []));
  const names = [...new Set([...asked, ...OF_SINGLE_CALLS])].sort();
  const lines = names.map((name) => `  | ${JSON.stringify(name)}`);
  host.print(`// Generated from the access options in proto/. Do not edit.

/** Permissions that Concierge's own methods ask for. */
export type Permission =
${lines.join("\n")};
`);
}
