/**
 * Google service accounts for development: a key file in Google's own format, so that the real Firebase SDK takes it,
 * whose RSA key was generated here and opens nothing at Google. The stand-in needs only the public half.
 */
import { createPublicKey, generateKeyPair, randomBytes, randomInt } from "node:crypto";
import { promisify } from "node:util";
import type { ServiceAccountKey } from "../services/notification-sender/push-credentials.ts";

/** What it takes to recognise a service account: its address and its public key (SPKI, PEM). */
export interface ServiceAccountIdentity {
  clientEmail: string;
  publicKey: string;
}

/** Generates a service account for development, with an RSA key of 2048 bits, which is to be kept in a 0600 file. */
export async function createServiceAccount(projectId: string): Promise<ServiceAccountKey> {
  const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: 2048 });
  const clientEmail = `firebase-adminsdk-dev@${projectId}.iam.gserviceaccount.com`;
  return {
    type: "service_account",
    project_id: projectId,
    private_key_id: randomBytes(20).toString("hex"),
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    client_email: clientEmail,
    client_id: `1${String(randomInt(1e10)).padStart(10, "0")}${String(randomInt(1e10)).padStart(10, "0")}`,
    auth_uri: "https://accounts.google.com/o/oauth2/auth",
    token_uri: "https://oauth2.googleapis.com/token",
    auth_provider_x509_cert_url: "https://www.googleapis.com/oauth2/v1/certs",
    client_x509_cert_url: `https://www.googleapis.com/robot/v1/metadata/x509/${encodeURIComponent(clientEmail)}`,
    universe_domain: "googleapis.com",
  };
}

/** The public half of a key file, as the stand-in wants it. */
export function identityOf(key: Pick<ServiceAccountKey, "client_email" | "private_key">): ServiceAccountIdentity {
  const publicKey = createPublicKey(key.private_key).export({ type: "spki", format: "pem" }).toString();
  return { clientEmail: key.client_email, publicKey };
}
