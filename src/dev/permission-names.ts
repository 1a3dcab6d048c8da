/**
 * Prints the names of all permissions that methods ask for as a TypeScript union, `gen/permissions.ts`: a name that no method has does
 * not compile, and neither does a permission that access cannot describe. Run by `make gen`.
 */
import { accessRule } from "../rpc/access.ts";
import { services } from "../services.ts";

const rules = services.flatMap((service) => service.services.flatMap((desc) => desc.methods.map(accessRule)));
const names = rules.flatMap((rule) => (rule.who === "permission" ? [rule.permission] : []));
// Not asked for by a method: what it gives depends on whom the method is about.
names.push("profiles:read", "profiles:update");
const lines = [...new Set(names)].sort().map((name) => `  | ${JSON.stringify(name)}`);
process.stdout.write(
  `// Generated from the access options in proto/. Do not edit.\n\n/** Permissions that Concierge's own methods ask for. */\nexport type Permission =\n${lines.join("\n")};\n`,
);
