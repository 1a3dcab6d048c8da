/** What gRPC calls the outcome of a call, in the words that dashboards and traces of every language use. */
import { Code } from "../errors.ts";

/** By number: these are gRPC's status codes, and Connect's are the same without OK. */
export const STATUS_NAMES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** The number of an outcome in STATUS_NAMES; no code means that the call went well. */
export function statusNumber(code: Code | undefined): number {
  if (code === undefined) return 0;
  return code in STATUS_NAMES ? code : Code.Unknown;
}

/** Its name. */
export function statusName(code: Code | undefined): (typeof STATUS_NAMES)[number] {
  return STATUS_NAMES[statusNumber(code)]!;
}
