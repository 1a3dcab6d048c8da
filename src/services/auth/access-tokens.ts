/** The access tokens that auth gives out: for a live session, never beyond its end. */
import { Code, fail } from "../../errors.ts";
import { type AccessClaims, AUDIENCE, signAccessToken } from "../../token/access-token.ts";
import type { Signer } from "../../token/signing-keys.ts";
import type { AuthContext } from "./service.ts";

export interface AccessToken {
  accessToken: string;
  accessTokenExpiresAt: Date;
  /** UUID of the organization that it names; empty for none. */
  organizationId: string;
}

/** Signs one, whose end was found by endOfToken(). */
export function issueAccessToken(
  auth: Pick<AuthContext, "issuer" | "clock">,
  signer: Signer,
  claims: AccessClaims,
  audience: string,
): AccessToken {
  return {
    accessToken: signAccessToken(signer, auth, claims, audience),
    accessTokenExpiresAt: new Date(claims.expiresAt * 1_000),
    organizationId: claims.organizationId ?? "",
  };
}

/** When a token that is made now ends, in seconds since 1970. `endSeconds`: when its session does. */
export function endOfToken(
  { clock }: Pick<AuthContext, "clock">,
  { endSeconds, tokenSeconds }: { endSeconds: number; tokenSeconds: number },
): number {
  // Whoever decides about a token without asking us goes by its end alone.
  return Math.min(Math.floor(clock.now() / 1_000) + tokenSeconds, endSeconds);
}

/** The `aud` of the tokens that a client asks for. INVALID_ARGUMENT / UNKNOWN_AUDIENCE. */
export function audienceOf({ audiences }: Pick<AuthContext, "audiences">, asked: string): string {
  if (asked === "" || asked === AUDIENCE) return AUDIENCE;
  if (audiences.includes(asked)) return asked;
  throw fail(Code.InvalidArgument, "UNKNOWN_AUDIENCE", "access tokens are not made for this audience here");
}
