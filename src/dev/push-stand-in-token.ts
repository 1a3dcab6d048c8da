/**
 * Google's OAuth token endpoint as far as a service account needs it: an assertion signed by the account's key is
 * traded for a bearer token of one hour. Nothing is taken on trust: signature, issuer, audience, life and scope are
 * verified. As at Google, a bearer token outlives a restart: it carries its own expiry, signed.
 */
import { hkdfSync, randomUUID } from "node:crypto";
import { type CryptoKey, errors, importSPKI, jwtVerify, SignJWT } from "jose";
import type { Clock } from "../clock.ts";
import type { ServiceAccountIdentity } from "./push-stand-in-account.ts";
import type { Answer } from "./push-stand-in-message.ts";

const TOKEN_AUDIENCE = "https://oauth2.googleapis.com/token";
const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SCOPES = ["https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"];
const TOKEN_LIFE_S = 3600;
const CLOCK_TOLERANCE_S = 300;

export interface TokenIssuer {
  /** Answers a `POST /token` whose form fields are given. */
  exchange(form: URLSearchParams): Promise<Answer>;
  /** Is this the text of an `Authorization` header with a bearer token issued for this account and not expired? */
  accepts(authorization: string | undefined): Promise<boolean>;
}

export async function createTokenIssuer(account: ServiceAccountIdentity, clock: Clock): Promise<TokenIssuer> {
  const publicKey = await importSPKI(account.publicKey, "RS256");
  // Made from what every start is given, so nothing need be kept. It guards no secret: the stand-in's pushes go nowhere.
  const bearerKey = new Uint8Array(hkdfSync("sha256", account.publicKey, account.clientEmail, "bearer tokens", 32));
  return {
    async exchange(form) {
      if (form.get("grant_type") !== GRANT_TYPE) {
        return oauthError("unsupported_grant_type", `Invalid grant_type: ${form.get("grant_type") ?? ""}`);
      }
      const assertion = form.get("assertion") ?? "";
      const refusal = await refusalOf(assertion, { publicKey, issuer: account.clientEmail, nowMs: clock.now() });
      if (refusal) return refusal;
      const expiresAtS = Math.floor(clock.now() / 1000) + TOKEN_LIFE_S;
      const jwt = new SignJWT({ jti: randomUUID(), exp: expiresAtS }).setProtectedHeader({ alg: "HS256" });
      const token = `ya29.${await jwt.sign(bearerKey)}`;
      return { status: 200, body: { access_token: token, expires_in: TOKEN_LIFE_S, token_type: "Bearer" } };
    },
    async accepts(authorization) {
      const [, token] = /^Bearer ya29\.(\S+)$/i.exec(authorization ?? "") ?? [];
      if (token === undefined) return false;
      const rules = { algorithms: ["HS256"], requiredClaims: ["exp"], currentDate: new Date(clock.now()) };
      return jwtVerify(token, bearerKey, rules).then(
        () => true,
        () => false,
      );
    },
  };
}

/** The OAuth error that Google answers for this assertion, or undefined if it is good. */
async function refusalOf(
  assertion: string,
  { publicKey, issuer, nowMs }: { publicKey: CryptoKey; issuer: string; nowMs: number },
): Promise<Answer | undefined> {
  try {
    const { payload } = await jwtVerify(assertion, publicKey, {
      algorithms: ["RS256"],
      issuer,
      audience: TOKEN_AUDIENCE,
      requiredClaims: ["iat", "exp", "scope"],
      maxTokenAge: TOKEN_LIFE_S,
      clockTolerance: CLOCK_TOLERANCE_S,
      currentDate: new Date(nowMs),
    });
    if (payload.exp! - payload.iat! > TOKEN_LIFE_S)
      return oauthError("invalid_grant", "Invalid JWT: Token must be short-lived.");
    const scopes = String(payload.scope).split(" ");
    if (SCOPES.some((scope) => scopes.includes(scope))) return undefined;
    return oauthError("invalid_scope", "Invalid OAuth scope or ID token audience provided.");
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
    return oauthError("invalid_grant", descriptionOf(error));
  }
}

/** Google's words for the ways an assertion can be bad. */
function descriptionOf(error: errors.JOSEError): string {
  if (error instanceof errors.JWSSignatureVerificationFailed) return "Invalid JWT Signature.";
  if (error instanceof errors.JWTExpired) return "Invalid JWT: Token must be a short-lived token (60 minutes).";
  if (error instanceof errors.JWTClaimValidationFailed) {
    return error.claim === "iss" ? "Invalid grant: account not found" : `Invalid JWT: bad claim ${error.claim}.`;
  }
  return "Bad Request: the assertion is not a signed JWT.";
}

function oauthError(error: string, description: string): Answer {
  return { status: 400, body: { error, error_description: description } };
}
