/**
 * The rule of each method: who may call it. Read once at start from the option `concierge.options.v1.access`; a method
 * without one stops the start, so nothing is reachable by accident. Third-party services carry no option of ours; their
 * rules are listed here.
 */
import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  type Access,
  access,
  type Permission,
  type User,
  WhenStale as WhenStaleOption,
} from "../../gen/concierge/options/v1/access_pb.ts";
import type { ServiceKey } from "../config.ts";
import { StartupError } from "../errors.ts";
import type { WhenStale } from "../token/session-check.ts";

export type AccessRule =
  | { who: "public" }
  | { who: "user"; whenStale: WhenStale }
  | { who: "permission"; permission: string; whenStale: WhenStale }
  | { who: "callers"; services: string[]; backends: boolean; operators: boolean; readers?: boolean };

/** Open to everybody: health tells no secret, reflection is only mounted where it is wanted. */
const THIRD_PARTY: Record<string, AccessRule> = {
  "grpc.health.v1.Health": { who: "public" },
  "grpc.reflection.v1.ServerReflection": { who: "public" },
  "grpc.reflection.v1alpha.ServerReflection": { who: "public" },
};

/** The two ports of a service: one for people, one for services. */
export type Side = "public" | "internal";

/** What clients spoke before there was Concierge: internal, whatever its name. */
const LEGACY_SERVICE = "auth.AuthService";

/** `XInternalService` is reached on the internal listener only, `XService` on the public one only. */
export function sideOf(service: DescService): Side {
  const isInternal = service.name.endsWith("InternalService") || service.typeName === LEGACY_SERVICE;
  return isInternal ? "internal" : "public";
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
    case "permission":
      if (sideOf(method.parent) === "internal")
        throw new StartupError(`${name}: an internal method must list its callers`);
      return personsRule(method, option);
    case "callers":
      if (sideOf(method.parent) === "public") throw new StartupError(`${name}: only internal methods may list callers`);
      return { who: "callers", ...option.value };
    default:
      throw new StartupError(`${name} does not say who may call it (option concierge.options.v1.access)`);
  }
}

function personsRule(
  method: DescMethod,
  option: Extract<Access["who"], { case: "public" | "user" | "permission" }>,
): AccessRule {
  switch (option.case) {
    case "public":
      return { who: "public" };
    case "user":
      return { who: "user", whenStale: whenStaleOf(method, option.value) };
    case "permission":
      return { who: "permission", permission: option.value.name, whenStale: whenStaleOf(method, option.value) };
  }
}

/** Who goes on without knowing whether a session lives may at least change nothing. */
function whenStaleOf({ parent, name, idempotency }: DescMethod, { whenStale }: User | Permission): WhenStale {
  if (whenStale !== WhenStaleOption.UNTIL_EXPIRY) return "closed";
  if (idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) return "until_expiry";
  throw new StartupError(`${parent.typeName}/${name}: only a method with NO_SIDE_EFFECTS may go on while auth is away`);
}

/** Whether the holder of a key may call a method with this rule. */
export function mayCall(
  rule: AccessRule & { who: "callers" },
  caller: { kind: ServiceKey["kind"]; name: string },
): boolean {
  switch (caller.kind) {
    case "service":
      return rule.services.includes(caller.name) || rule.readers === true;
    case "backend":
      return rule.backends;
    case "operator":
      return rule.operators;
  }
}
