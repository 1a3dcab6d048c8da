/**
 * Makes X.509 certificates (RFC 5280) with ECDSA P-256 keys, for development and tests. The packages that write them are
 * development dependencies, loaded when the first certificate is made: nothing that production runs needs them.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { isIP } from "node:net";
import { ExitCode, StartupError } from "../errors.ts";

/** PEM texts. The certificate holds a public key, the key is its private one (PKCS #8). */
export interface CertifiedKey {
  certificate: string;
  key: string;
}

export interface CertificateWish {
  /** Common name of the subject. */
  name: string;
  /** DNS names and IP addresses that the certificate is good for. */
  hosts?: readonly string[];
  /** May certify others, but no authorities. */
  isAuthority?: boolean;
  /** Milliseconds since 1970. */
  notBefore: number;
  notAfter: number;
  /** The authority that certifies it; itself when not given. */
  issuer?: CertifiedKey;
}

type X509 = typeof import("@peculiar/x509");

const EC_KEY = { name: "ECDSA", namedCurve: "P-256" };

/** Makes a key and its certificate. Throws a StartupError in an installation that cannot. */
export async function certify(wish: CertificateWish): Promise<CertifiedKey> {
  const x509 = await loadX509();
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: EC_KEY.namedCurve });
  const subjectPublicKey = publicKey.export({ type: "spki", format: "der" });
  const identifier = await x509.SubjectKeyIdentifierExtension.create(subjectPublicKey);
  const subject = [{ CN: [wish.name] }];
  const issuer = wish.issuer && new x509.X509Certificate(wish.issuer.certificate);
  // What the authority calls its key, whoever made it.
  const issuerIdentifier = issuer?.getExtension(x509.SubjectKeyIdentifierExtension) ?? identifier;
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: issuer?.subjectName ?? subject,
    publicKey: subjectPublicKey,
    signingKey: signingKeyOf(wish.issuer ? createPrivateKey(wish.issuer.key) : privateKey),
    notBefore: new Date(wish.notBefore),
    notAfter: new Date(wish.notAfter),
    extensions: [
      ...purposeOf(wish, x509),
      identifier,
      new x509.AuthorityKeyIdentifierExtension(issuerIdentifier.keyId),
    ],
  });
  const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  return { certificate: `${certificate.toString("pem")}\n`, key };
}

function signingKeyOf(key: KeyObject) {
  return key.toCryptoKey(EC_KEY, false, ["sign"]);
}

/** The extensions that say what a certificate is good for. */
function purposeOf({ isAuthority = false, hosts = [] }: CertificateWish, x509: X509) {
  const { keyCertSign, cRLSign, digitalSignature } = x509.KeyUsageFlags;
  if (isAuthority) {
    return [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
    ];
  }
  const names = hosts.map((value) => ({ type: isIP(value) ? ("ip" as const) : ("dns" as const), value }));
  return [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    new x509.SubjectAlternativeNameExtension(names),
  ];
}

async function loadX509(): Promise<X509> {
  try {
    await import("reflect-metadata"); // which the other expects to be there
    return await import("@peculiar/x509");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    const problem = "certificates are made with the development dependencies, which are not installed: run `npm ci`";
    throw new StartupError(problem, ExitCode.unavailable, { cause });
  }
}
