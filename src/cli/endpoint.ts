/**
 * The server that a command calls, and who may vouch for it. An https URL is trusted only as far as its certificate, and
 * nothing is ever tried in the clear instead.
 */
import { readFile } from "node:fs/promises";
import { getCACertificates } from "node:tls";
import type { Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ExitCode, StartupError } from "../errors.ts";

export interface Endpoint {
  /** Scheme, host and port. */
  url: string;
  /** With https, the authorities (PEM) that may certify it. */
  ca?: string;
}

/**
 * Checks a URL, and reads the authorities to trust: those of this file, or else those that this machine trusts. Throws a
 * StartupError for a URL that is none, a file that cannot be read, and a file for a URL without TLS.
 */
export async function endpointAt(text: string, caFile: string | undefined): Promise<Endpoint> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.pathname !== "/") {
    throw new StartupError("--url must be like https://example.com:8080", ExitCode.usage);
  }
  if (url.protocol === "https:") return { url: url.origin, ca: await readAuthorities(caFile) };
  if (caFile !== undefined) throw new StartupError("--ca is for an https URL", ExitCode.usage);
  return { url: url.origin };
}

async function readAuthorities(file: string | undefined): Promise<string> {
  if (file === undefined) return [...getCACertificates("default"), ...getCACertificates("system")].join("\n");
  return readFile(file, "utf8").catch(({ code }: NodeJS.ErrnoException) => {
    throw new StartupError(`${file} cannot be read (${code})`, ExitCode.usage);
  });
}

/** For calls that need no HTTP/2, so that nothing has to be closed after them. */
export function transportTo({ url, ca }: Endpoint): Transport {
  return createConnectTransport({ baseUrl: url, httpVersion: "1.1", nodeOptions: { ca, rejectUnauthorized: true } });
}
