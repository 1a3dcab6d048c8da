/**
 * The guard of Connect servers. Every method takes an access token unless a rule says otherwise; one that is for everybody has to be
 * called so. A stream is judged when it begins. Connect reads a message before any interceptor runs: `readMaxBytes` is the server's to set.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  type ConnectError,
  type ContextValues,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { fail } from "../../errors.ts";
import type { Principal } from "../results.ts";
import {
  admit,
  type GuardClient,
  type GuardOptions,
  type GuardRule,
  type HeaderLines,
  hintsOf,
  linesOf,
  permissionRule,
} from "./decision.ts";

export type ConnectRule = GuardRule | "public";

/** The rules of some methods by their full names, made by rulesOf(). */
export type ConnectRules = ReadonlyMap<string, ConnectRule>;

/** Options of connectNodeAdapter(), or of Connect's plugins for Fastify and Express: spread the whole of it. */
export interface ConnectGuard {
  interceptors: Interceptor[];
  /** Brings the headers as they were sent: Connect itself is shown the first of several. */
  contextValues(request: { rawHeaders: string[] }): ContextValues;
}

const principalKey = createContextKey<Principal | undefined>(undefined, { description: "principal" });
const linesKey = createContextKey<HeaderLines | undefined>(undefined, { description: "header lines" });

export function requireUser(options: GuardOptions = {}): ConnectRule {
  return options;
}

/** Held in the organization of the access token: PERMISSION_DENIED / NO_ORGANIZATION or PERMISSION_MISSING. */
export function requirePermission(permission: string, options?: GuardOptions): ConnectRule {
  return permissionRule(permission, options);
}

/** Rules by the names of a service's methods, such as { listProducts: requirePermission("products:read"), check: "public" }. */
export function rulesOf<Desc extends DescService>(
  { method }: Desc,
  rules: { [Name in keyof Desc["method"]]?: ConnectRule },
): ConnectRules {
  const entries = Object.entries(rules) as [string, ConnectRule][];
  return new Map(
    entries.map(([name, rule]) => {
      const found = method[name];
      if (!found) throw new TypeError(`there is no method ${name}`);
      return [nameOf(found), rule];
    }),
  );
}

/** Not the descriptor itself: a program may have loaded the same contract twice. */
function nameOf({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

/** Methods without a rule take an access token. UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE / AUTH_STALE. */
export function connectGuard(auth: GuardClient, ...rules: ConnectRules[]): ConnectGuard {
  const ruleOf = new Map(rules.flatMap((some) => [...some]));
  const guard: Interceptor = (next) => async (request) => {
    const rule = ruleOf.get(nameOf(request.method)) ?? {};
    if (rule === "public") return next(request);
    const { contextValues, header } = request;
    const principal = await admit(auth, rule, contextValues.get(linesKey) ?? linesOf(header)).catch(withHints);
    contextValues.set(principalKey, principal);
    return next(request);
  };
  return {
    interceptors: [guard],
    contextValues: ({ rawHeaders }) => createContextValues().set(linesKey, rawHeaders),
  };
}

/** Who calls a handler behind the guard. INTERNAL in a public method, and where there is no guard. */
export function principalOf({ values }: { values: ContextValues }): Principal {
  const principal = values.get(principalKey);
  if (!principal) throw fail(Code.Internal, "INTERNAL", "internal error", { cause: new Error("no guard was here") });
  return principal;
}

function withHints(error: ConnectError): never {
  for (const [name, value] of Object.entries(hintsOf(error))) error.metadata.set(name, value);
  throw error;
}
