/** Certificates for tests: those that are to be accepted, and those that nobody must accept, each wrong in one way. */
import { type CertifiedKey, certify } from "../dev/certify.ts";

const DAY_MS = 86_400_000;

export interface TestCertificates {
  /** The certificate (PEM) of the authority behind all but the self-signed one. */
  ca: string;
  /** For localhost, 127.0.0.1 and ::1. */
  good: CertifiedKey;
  /** The same, newer: another key. */
  renewed: CertifiedKey;
  /** Expired yesterday. */
  expired: CertifiedKey;
  selfSigned: CertifiedKey;
  /** For another host. */
  wrongName: CertifiedKey;
}

export async function createTestCertificates(now = Date.now()): Promise<TestCertificates> {
  const validity = { notBefore: now - 30 * DAY_MS, notAfter: now + 30 * DAY_MS };
  const issuer = await certify({ name: "Test authority", isAuthority: true, ...validity });
  const wish = { name: "localhost", hosts: ["localhost", "127.0.0.1", "::1"], ...validity };
  return {
    ca: issuer.certificate,
    good: await certify({ ...wish, issuer }),
    renewed: await certify({ ...wish, issuer }),
    expired: await certify({ ...wish, issuer, notAfter: now - DAY_MS }),
    selfSigned: await certify(wish),
    wrongName: await certify({ ...wish, issuer, hosts: ["elsewhere.example", "192.0.2.1"] }),
  };
}
