/** Callers, by the names under which notification remembers them: who created a notification, who holds a lease. */
import type { HandlerContext } from "@connectrpc/connect";
import { keyHolderOf, scopeOf } from "../../rpc/call.ts";

/** No caller's name: those begin with their kind. */
export const ANYBODY = "*";

/** With the kind, because a backend may have an operator's name. */
export function ownerOf(context: HandlerContext): string {
  const { kind, name } = keyHolderOf(scopeOf(context));
  return `${kind} ${name}`;
}

/** Whose notifications this caller looks after: its own, or, as an operator, those of ANYBODY. */
export function lookedAfterBy(context: HandlerContext): string {
  return keyHolderOf(scopeOf(context)).kind === "operator" ? ANYBODY : ownerOf(context);
}
