/** The access tokens that auth gives out: for a live session, never beyond its end. */
import { Code, fail } from "../../errors.ts";
import { type AccessClaims, AUDIENCE, signAccessToken } from "../../token/access-token.ts";
import type { AuthContext } from "./service.ts";

export interface AccessToken {
  accessToken: string;
  accessTokenExpiresAt: Date;
  /** UUID of the organization that it names; empty for none. */
  organizationId: string;
}

/** Signs one. `endSeconds`: the session's end, in seconds since 1970. */
export function issueAccessToken(
  auth: Pick<AuthContext, "ownKeys" | "issuer" | "clock">,
  claims: Omit<AccessClaims, "expiresAt">,
  { audience, endSeconds, tokenSeconds }: { audience: string; endSeconds: number; tokenSeconds: number },
): AccessToken {
  // Whoever decides about a token without asking us goes by its end alone.
  const expiresAt = Math.min(Math.floor(auth.clock.now() / 1_000) + tokenSeconds, endSeconds);
  return {
    accessToken: signAccessToken(auth.ownKeys.signer, auth, { ...claims, expiresAt }, audience),
    accessTokenExpiresAt: new Date(expiresAt * 1_000),
    organizationId: claims.organizationId ?? "",
  };
}

/** The `aud` of the tokens that a client asks for. INVALID_ARGUMENT / UNKNOWN_AUDIENCE. */
export function audienceOf({ audiences }: Pick<AuthContext, "audiences">, asked: string): string {
  if (asked === "" || asked === AUDIENCE) return AUDIENCE;
  if (audiences.includes(asked)) return asked;
  throw fail(Code.InvalidArgument, "UNKNOWN_AUDIENCE", "access tokens are not made for this audience here");
}
