/**
 * Every call has a deadline. Connect sets none when the client sends none or 0, so the header is filled in before Connect
 * reads it; a longer wish than the server grants is shortened.
 */
import type { IncomingHttpHeaders } from "node:http";

export interface DeadlineLimits {
  /** When the client names none. */
  defaultMs: number;
  maximumMs: number;
}

const GRPC_TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNIT_MS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** gRPC or gRPC-Web. Media types have no case, and Connect reads them so. */
export function isGrpcContentType(contentType: string | undefined): boolean {
  return contentType?.toLowerCase().startsWith("application/grpc") ?? false;
}

/** Sets the deadline header of a request. A malformed one stays as it is: Connect refuses it as INVALID_ARGUMENT. */
export function applyDeadline(headers: IncomingHttpHeaders, limits: DeadlineLimits): void {
  const isGrpc = isGrpcContentType(headers["content-type"]);
  const grantedMs = grantDeadline(headers, isGrpc, limits);
  if (grantedMs === "malformed") return;
  if (isGrpc) headers["grpc-timeout"] = `${grantedMs}m`;
  else headers["connect-timeout-ms"] = String(grantedMs);
}

/** Whole milliseconds, at least one. */
export function grantDeadline(
  headers: IncomingHttpHeaders,
  isGrpc: boolean,
  limits: DeadlineLimits,
): number | "malformed" {
  const wishMs = isGrpc
    ? parseGrpcTimeout(headers["grpc-timeout"])
    : parseConnectTimeout(headers["connect-timeout-ms"]);
  if (wishMs === "malformed") return wishMs;
  return Math.max(1, Math.floor(Math.min(wishMs || limits.defaultMs, limits.maximumMs)));
}

function parseGrpcTimeout(value: string | string[] | undefined): number | "malformed" {
  if (value === undefined) return 0;
  const match = GRPC_TIMEOUT.exec(String(value));
  return match ? Number(match[1]) * UNIT_MS[match[2]!]! : "malformed";
}

function parseConnectTimeout(value: string | string[] | undefined): number | "malformed" {
  if (value === undefined) return 0;
  return /^\d{1,10}$/.test(String(value)) ? Number(value) : "malformed";
}
