/** The certificate of the listeners: whether a listener would open with it, and for how long. */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { openTls } from "../listener/tls.ts";
import { type Check, type DoctorContext, type Finding, ok, unfit, warning } from "./finding.ts";

const DAY_MS = 86_400_000;
const SOON_DAYS = 30;

export function certificateChecks({ platform, clock }: DoctorContext): Check[] {
  const { tlsCertificatePath: certificatePath, tlsKeyPath: keyPath } = platform;
  if (certificatePath === undefined && keyPath === undefined) return [];
  return [
    {
      what: "certificate",
      async run() {
        await openTls({ certificatePath, keyPath }, () => {});
        // A chain begins with the listener's own.
        return expiryFindings(new X509Certificate(await readFile(certificatePath!)), clock.now());
      },
    },
  ];
}

function expiryFindings(
  { validFromDate, validToDate, subjectAltName = "no name" }: X509Certificate,
  now: number,
): Finding[] {
  const days = Math.floor((validToDate.getTime() - now) / DAY_MS);
  const until = validToDate.toISOString().slice(0, 10);
  const remedy = "put a new one in its place: it is read without a restart";
  if (days < 0) return [unfit(`expired on ${until}`, remedy)];
  if (validFromDate.getTime() > now) return [unfit(`not good before ${validFromDate.toISOString()}`, remedy)];
  if (days < SOON_DAYS) return [warning(`expires in ${days} days, on ${until}`, remedy)];
  return [ok(`fits its key, is for ${subjectAltName}, and is good until ${until}`)];
}
