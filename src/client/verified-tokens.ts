/**
 * Tokens with all that belongs to them: who sent it, what that person may do, and the person's address and names, which no token carries. For
 * these auth is asked once for each token, by its whole text; what it says is kept by the token's SHA-256 (S-SDK-01) and decides nothing.
 */
import { hash } from "node:crypto";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { jittered } from "../cache-times.ts";
import type { Clock } from "../clock.ts";
import type { Rights } from "../rights/rights.ts";
import type { AccessClaims } from "../token/access-token.ts";
import { Answers, refusedBy, unauthenticated } from "./answers.ts";
import type { Authenticator } from "./authenticator.ts";
import type { Permissions } from "./permissions.ts";
import { permissionsOf, type VerifiedToken } from "./results.ts";

interface Person {
  email: string;
  firstName: string;
  lastName: string;
  active: boolean;
}

export interface VerifiedTokensOptions {
  authenticator: Authenticator;
  permissions: Permissions;
  auth: Pick<Client<typeof AuthInternalService>, "verifyToken" | "checkSession">;
  clock: Clock;
  /** Told why an answer has no names. */
  onFault(error: unknown): void;
}

const KEPT_MS = 300_000;
/** Nothing tells that an account has become active again. */
const INACTIVE_KEPT_MS = 1_000;
const MAX_KEPT = 100_000;
const MAX_BYTES = 64 * 1024 * 1024;
/** Beside the text of its fields. */
const BYTES_OF_ONE = 400;
const QUESTION_TIMEOUT_MS = 1_000;

export class VerifiedTokens {
  readonly #options: VerifiedTokensOptions;
  readonly #people: Answers<Person>;

  constructor(options: VerifiedTokensOptions) {
    this.#options = options;
    const now = () => options.clock.monotonic();
    this.#people = new Answers({ now, max: MAX_KEPT, bytes: { max: MAX_BYTES, of: bytesOf } });
  }

  /** UNAUTHENTICATED, UNAVAILABLE / AUTH_STALE. */
  async verify(token: string, claims: AccessClaims): Promise<VerifiedToken> {
    const { authenticator } = this.#options;
    await authenticator.requireLive(claims, "closed");
    const [person, rights] = await Promise.all([this.#personOf(token, claims), this.#rightsBehind(claims)]);
    // It may have ended while others were asked.
    await authenticator.requireLive(claims, "closed");
    const counting = person.active && rights?.standing === "active" ? rights : undefined;
    const { userId, sessionId, organizationId = "", expiresAt } = claims;
    return {
      ...{ userId, sessionId, expiresAt, ...person, isActive: person.active },
      organizationId: counting ? organizationId : "",
      ...permissionsOf(counting),
    };
  }

  /** None in an organization that there is not any more. */
  async #rightsBehind({ userId, organizationId }: AccessClaims): Promise<Rights | undefined> {
    if (organizationId === undefined) return undefined;
    try {
      return await this.#options.permissions.rightsOf({ userId, organizationId });
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) return undefined;
      throw error;
    }
  }

  /** Names never close an answer (C21); a token that auth refuses does. */
  async #personOf(token: string, claims: AccessClaims): Promise<Person> {
    try {
      return await this.#people.find(nameOf(token), () => this.#ask(token, claims));
    } catch (error) {
      if (ConnectError.from(error).code === Code.Unauthenticated) throw unauthenticated(error);
      this.#options.onFault(error);
      return { email: "", firstName: "", lastName: "", active: true };
    }
  }

  async #ask(token: string, { sessionId, generation, expiresAt }: AccessClaims) {
    const { auth, clock } = this.#options;
    const options = { timeoutMs: QUESTION_TIMEOUT_MS };
    const askAnother = () => auth.checkSession({ sessionId, generation }, options);
    const answer = await auth
      .verifyToken({ accessToken: token }, options)
      .catch((error) => refusedBy(error, askAnother));
    const { email, firstName, lastName, active } = answer;
    const person = { email, firstName, lastName, active };
    const lifeMs = expiresAt * 1_000 - clock.now();
    return { value: person, keepMs: Math.min(active ? jittered(KEPT_MS) : INACTIVE_KEPT_MS, lifeMs) };
  }
}

/** What a token is kept by: nobody learns a token from it, and no two tokens share one. */
export function nameOf(token: string): string {
  return hash("sha256", token, "base64");
}

function bytesOf({ email, firstName, lastName }: Person): number {
  return BYTES_OF_ONE + 2 * (email.length + firstName.length + lastName.length);
}
