/** Between the headers of Node and those of the web, which Connect and handlers use. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";

/** Without the pseudo-headers of HTTP/2. */
export function toHeaders(incoming: IncomingHttpHeaders): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one);
  }
  return headers;
}

/** None where there are none. */
export function fromHeaders(headers: Headers | undefined): OutgoingHttpHeaders {
  if (!headers) return {};
  const lines: OutgoingHttpHeaders = Object.fromEntries(headers);
  // The one header of which each value is a line of its own.
  const cookies = headers.getSetCookie();
  if (cookies.length > 0) lines["set-cookie"] = cookies;
  return lines;
}
