/**
 * Writes the names of all permissions that methods ask for as a TypeScript union, gen/permissions.ts: a name that no method has does
 * not compile, and neither does a permission that access cannot describe. Run by `make gen`.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { accessRule } from "../rpc/access.ts";
import { services } from "../services.ts";

const rules = services.flatMap((service) => service.services.flatMap((desc) => desc.methods.map(accessRule)));
const names = rules.flatMap((rule) => (rule.who === "permission" ? [rule.permission] : []));
// Not asked for by a method: what it gives depends on whom the method is about.
names.push("profiles:read", "profiles:update");
const lines = [...new Set(names)].sort().map((name) => `  | ${JSON.stringify(name)}`);
const text = `// Generated from the access options in proto/. Do not edit.

/** Permissions that Concierge's own methods ask for. */
export type Permission =
${lines.join("\n")};
`;
writeFileSync(join(import.meta.dirname, "../../gen/permissions.ts"), text);
