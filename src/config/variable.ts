/**
 * What one configuration variable is: its type, its sentence for the docs, whether it is secret, and the rules that hold
 * for it in production. Rules stand beside the variable, so a service's config.ts tells the whole story.
 * Every value arrives as text (environment, file and YAML alike), so types start from text: use `z.coerce.number()`,
 * `z.stringbool()` (not `z.coerce.boolean()`, for which "false" is true) and `list`.
 */
import { z } from "zod";

/** The named risks an operator may take in production, each by its own variable `CONCIERGE_RISK_<NAME>=accepted`. */
export type Risk = "cleartextDatabase" | "cleartextPeers" | "reflection";

/** Why production refuses a value. Never contains the value. */
export interface Refusal {
  problem: string;
  /** The flag that takes the risk; without one there is no way around. */
  risk?: Risk;
  /** Demo mode, which otherwise checks like production, lets this pass. */
  allowedInDemo?: boolean;
}

/** A production rule: undefined when the value may be used; a text is a refusal that nothing lifts. */
export type ProductionRule<T> = (value: T) => Refusal | string | undefined;

export type SecretKind =
  | "databaseUrl"
  | "serviceKeys"
  | "keys"
  | "jwks"
  | "smtpUrl"
  | "password"
  | "redisUrl"
  | "text"
  | "json";

/** One piece of key material inside a secret's value, for the checks on strength and on double use. */
export interface KeyMaterial {
  /** Which part of the value it is, for the problem's text, e.g. "key 2"; empty when it is the whole value. */
  part: string;
  bytes: Uint8Array;
  /** Every spelling in which a sample value such as `changeme` would show. */
  texts: string[];
  minBytes: number;
  /** Two materials with equal bytes are one and the same credential only when these are equal too. */
  identity: string;
}

export interface Variable<T> {
  readonly type: z.ZodType<T>;
  readonly description: string;
  readonly secret?: SecretKind;
  // Methods, not properties: a Variable<number> must be usable as a Variable<unknown> in a registry.
  production?(value: T): Refusal | string | undefined;
  keyMaterial?(value: T, owner: { service: string; name: string }): KeyMaterial[];
}

/** All variables of one service by camelCase key: `databaseUrl` of `auth` is CONCIERGE_AUTH_DATABASE_URL. */
export type ConfigShape = Record<string, Variable<unknown>>;

/** The parsed values of a shape. */
export type ValuesOf<S extends ConfigShape> = {
  readonly [K in keyof S]: S[K] extends Variable<infer T> ? T : never;
};

/**
 * A variable that is not secret. Messages written into its type (`refine`, `regex` ...) are shown to operators and must
 * therefore be fixed texts that never contain the input.
 */
export function setting<T extends z.ZodType>(
  type: T,
  description: string,
  options: { production?: ProductionRule<z.output<T>> } = {},
): Variable<z.output<T>> {
  return { type: type as unknown as z.ZodType<z.output<T>>, description, ...options };
}

/** A list of texts: a YAML list, or one text with commas between the items. */
export const list = z.union([
  z.array(z.string()),
  z.string().transform((text) =>
    text
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== ""),
  ),
]);

/** The rule for what exists only outside production, such as the push stand-in or the test clock: set is refused. */
export function notInProduction(what: string, options: { allowedInDemo?: boolean } = {}) {
  return (value: unknown): Refusal | undefined => {
    if (value === undefined || value === false) return undefined;
    return { problem: `must not be set in production: ${what}`, ...options };
  };
}
