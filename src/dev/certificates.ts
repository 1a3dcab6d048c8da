/**
 * Certificates of the development folder: an authority, and one for servers on this machine. Made when missing, when they
 * expire within a week, or when a host is asked for that is not in them; keys are readable by their owner only.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import { type CertifiedKey, certify } from "./certify.ts";

export interface DevelopmentCertificates {
  certificatePath: string;
  keyPath: string;
  /** What clients are told to trust. */
  authorityPath: string;
  /** Whether anything was made. */
  isNew: boolean;
}

const DAY_MS = 86_400_000;
const LIFE_MS = 90 * DAY_MS;
const RENEWAL_MS = 7 * DAY_MS;
/** Clocks of two machines, or of a container and its host, may differ. */
const BACKDATED_MS = 3_600_000;
const AUTHORITY = "Concierge development authority";
export const DEVELOPMENT_HOSTS: readonly string[] = ["localhost", "127.0.0.1", "::1"];

/** Sees to it that the folder has certificates that are good for these hosts. */
export async function makeDevelopmentCertificates(
  folder: string,
  hosts: readonly string[],
  clock: Clock,
): Promise<DevelopmentCertificates> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const isUsable = (pem: string) => expiresAt(pem) - clock.now() > RENEWAL_MS;
  const validity = { notBefore: clock.now() - BACKDATED_MS, notAfter: clock.now() + LIFE_MS };
  const known = await readPair(folder, "authority");
  const isAuthorityNew = !known || !isUsable(known.certificate);
  const authority = isAuthorityNew ? await certify({ name: AUTHORITY, isAuthority: true, ...validity }) : known;
  if (isAuthorityNew) await writePair(folder, "authority", authority);
  const server = await readPair(folder, "server");
  const isServerNew =
    isAuthorityNew || !server || !isUsable(server.certificate) || !isFor(server.certificate, hosts, authority);
  if (isServerNew) {
    await writePair(folder, "server", await certify({ name: hosts[0]!, hosts, ...validity, issuer: authority }));
  }
  return {
    certificatePath: join(folder, "server.crt"),
    keyPath: join(folder, "server.key"),
    authorityPath: join(folder, "authority.crt"),
    isNew: isServerNew,
  };
}

function expiresAt(pem: string): number {
  return new X509Certificate(pem).validToDate.getTime();
}

function isFor(pem: string, hosts: readonly string[], authority: CertifiedKey): boolean {
  const certificate = new X509Certificate(pem);
  const isNamed = (host: string) =>
    (isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host)) !== undefined;
  return hosts.every(isNamed) && certificate.verify(new X509Certificate(authority.certificate).publicKey);
}

/** Undefined when either is missing, damaged, or of another pair. */
async function readPair(folder: string, name: string): Promise<CertifiedKey | undefined> {
  try {
    const [certificate, key] = await Promise.all(
      ["crt", "key"].map((ending) => readFile(join(folder, `${name}.${ending}`), "utf8")),
    );
    return new X509Certificate(certificate!).checkPrivateKey(createPrivateKey(key!))
      ? { certificate: certificate!, key: key! }
      : undefined;
  } catch {
    return undefined;
  }
}

async function writePair(folder: string, name: string, { certificate, key }: CertifiedKey): Promise<void> {
  await writeWhole(join(folder, `${name}.key`), key, 0o600);
  await writeWhole(join(folder, `${name}.crt`), certificate, 0o644);
}

/** Written whole or not at all, with its mode from the first byte. */
async function writeWhole(file: string, text: string, mode: number): Promise<void> {
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", mode);
  try {
    await handle.chmod(mode);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}
