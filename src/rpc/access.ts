/**
 * The rule of each method: who may call it. Read once at start from the option `concierge.options.v1.access`; a method
 * without one stops the start, so nothing is reachable by accident. Third-party services carry no option of ours; their
 * rules are listed here.
 */
import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { access } from "../../gen/concierge/options/v1/access_pb.ts";
import type { ServiceKey } from "../config.ts";
import { StartupError } from "../errors.ts";

export type AccessRule =
  | { who: "public" }
  | { who: "user" }
  | { who: "callers"; services: string[]; backends: boolean; operators: boolean };

/** Open to everybody: health tells no secret, reflection is only mounted where it is wanted. */
const THIRD_PARTY: Record<string, AccessRule> = {
  "grpc.health.v1.Health": { who: "public" },
  "grpc.reflection.v1.ServerReflection": { who: "public" },
  "grpc.reflection.v1alpha.ServerReflection": { who: "public" },
};

/** The two ports of a service: one for people, one for services. */
export type Side = "public" | "internal";

/** `XInternalService` is reached on the internal listener only, `XService` on the public one only. */
export function sideOf(service: DescService): Side {
  return service.name.endsWith("InternalService") ? "internal" : "public";
}

/** The rule of one method. Throws a StartupError for a method without one, or with one that does not fit its listener. */
export function accessRule(method: DescMethod): AccessRule {
  const thirdParty = THIRD_PARTY[method.parent.typeName];
  if (thirdParty) return thirdParty;
  const name = `${method.parent.typeName}/${method.name}`;
  const option = hasOption(method, access) ? getOption(method, access).who : undefined;
  switch (option?.case) {
    case "public":
    case "user":
      if (sideOf(method.parent) === "internal")
        throw new StartupError(`${name}: an internal method must list its callers`);
      return { who: option.case };
    case "callers":
      if (sideOf(method.parent) === "public") throw new StartupError(`${name}: only internal methods may list callers`);
      return { who: "callers", ...option.value };
    default:
      throw new StartupError(`${name} does not say who may call it (option concierge.options.v1.access)`);
  }
}

/** Whether the holder of a key may call a method with this rule. */
export function mayCall(
  rule: AccessRule & { who: "callers" },
  caller: { kind: ServiceKey["kind"]; name: string },
): boolean {
  switch (caller.kind) {
    case "service":
      return rule.services.includes(caller.name);
    case "backend":
      return rule.backends;
    case "operator":
      return rule.operators;
  }
}
