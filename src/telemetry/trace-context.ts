/**
 * W3C Trace Context: the headers `traceparent` and `tracestate` read and written, and new ids. What is malformed counts as
 * not sent. Reading costs under a microsecond whatever is sent, and keeps nothing of it but the ids.
 */
import type { IncomingHttpHeaders } from "node:http";
import { randomBytes } from "../random.ts";

/** Whose call this is part of, as its headers say. */
export interface ParentContext {
  /** 32 hexadecimal digits in lower case. */
  traceId: string;
  /** 16 of them. */
  spanId: string;
  isSampled: boolean;
}

/** The digits of a future version may be followed by more; what follows those of version 00 makes them invalid. */
const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(?:-|$)/;
const TRACEPARENT_LENGTH = 55;
/** A part of a string keeps all of it in memory, so there is a bound. */
const MAX_TRACEPARENT_LENGTH = 256;
const SAMPLED = 1;

/** A list member: a key, of a tenant or not, and a value of printable characters that does not end with a blank. */
const TRACESTATE_MEMBER =
  /^[\da-z][\da-z_\-*/]{0,255}(?:@[a-z][\da-z_\-*/]{0,13})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;
/** What every system must be able to hand on; we hand on no more. */
const MAX_TRACESTATE_LENGTH = 512;
const MAX_TRACESTATE_MEMBERS = 32;

/** The parent that a caller names; undefined where it names none, several, or an impossible one. */
export function parseTraceparent({ traceparent }: IncomingHttpHeaders): ParentContext | undefined {
  if (typeof traceparent !== "string" || traceparent.length > MAX_TRACEPARENT_LENGTH) return undefined;
  const match = TRACEPARENT.exec(traceparent);
  if (!match) return undefined;
  const [, version, traceId, spanId, flags] = match as unknown as string[];
  if (version === "00" && traceparent.length !== TRACEPARENT_LENGTH) return undefined;
  return { traceId: traceId!, spanId: spanId!, isSampled: (Number.parseInt(flags!, 16) & SAMPLED) === SAMPLED };
}

/** What other systems want to be handed on; undefined unless it is all well-formed and of the size that must be handed on. */
export function parseTracestate({ tracestate }: IncomingHttpHeaders): string | undefined {
  if (typeof tracestate !== "string" || tracestate === "" || tracestate.length > MAX_TRACESTATE_LENGTH)
    return undefined;
  const members = tracestate
    .split(",")
    .map((member) => member.trim())
    .filter((member) => member !== "");
  const isFit = members.length <= MAX_TRACESTATE_MEMBERS && members.every((member) => TRACESTATE_MEMBER.test(member));
  return isFit && members.length > 0 ? members.join(",") : undefined;
}

export function formatTraceparent({ traceId, spanId, isSampled }: ParentContext): string {
  return `00-${traceId}-${spanId}-${isSampled ? "01" : "00"}`;
}

/** A new id of so many random bytes, in hexadecimal. */
export function randomId(bytes: 8 | 16): string {
  return randomBytes(bytes).toString("hex");
}

/** Decides by an id that was made here. A trace id that somebody sent could have been chosen to be recorded. */
export function isWithinRatio(ownId: string, ratio: number): boolean {
  return ratio === 1 || Number.parseInt(ownId.slice(0, 8), 16) < ratio * 2 ** 32;
}
