/** `concierge certs`: makes the certificates that a development system speaks TLS with, and says how to use them. */
import { resolve } from "node:path";
import { systemClock } from "../clock.ts";
import { DEVELOPMENT_HOSTS, makeDevelopmentCertificates } from "../dev/certificates.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { Host } from "./host.ts";
import { quoted } from "./quoted.ts";

/** A DNS name, also a wildcard one, or an IP address. */
const HOST = /^(?:\*\.)?[a-z\d](?:[a-z\d.-]{0,251}[a-z\d])?$|^[a-f\d:.]+$/i;

export async function makeCertificates(host: Host, folder: string, moreHosts: readonly string[]): Promise<void> {
  const wrong = moreHosts.find((name) => !HOST.test(name));
  if (wrong !== undefined) throw new StartupError(`"${wrong}" is neither a DNS name nor an address`, ExitCode.usage);
  const hosts = [...new Set([...DEVELOPMENT_HOSTS, ...moreHosts])];
  const { certificatePath, keyPath, authorityPath, isNew } = await makeDevelopmentCertificates(
    folder,
    hosts,
    systemClock,
  );
  host.print(
    isNew ? `wrote certificates for ${hosts.join(", ")} in ${folder}\n` : `nothing was missing in ${folder}\n`,
  );
  host.print(
    [
      `export CONCIERGE_TLS_CERTIFICATE_PATH=${quoted(resolve(certificatePath))}`,
      `export CONCIERGE_TLS_KEY_PATH=${quoted(resolve(keyPath))}`,
      `export CONCIERGE_PEER_CA_PATH=${quoted(resolve(authorityPath))}`,
      "",
    ].join("\n"),
  );
}
