/**
 * REST, for when RPCs and feeds do not get through (rest.ts): it is asked only where the answer would be UNAVAILABLE, and what it says is
 * what auth says (C5). An answer counts as long as any knowledge does, from when it was asked for.
 */
import { ConnectError } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { Code, reasonOf } from "../errors.ts";
import { noOrganization, permissionMissing, type RequiredPermission } from "../rights/require-permission.ts";
import type { Subject } from "../rights/rights.ts";
import type { AccessClaims } from "../token/access-token.ts";
import { Answers, refusedBy, unauthenticated } from "./answers.ts";
import type { RestFallback, RestVerified } from "./rest.ts";
import type { VerifiedToken } from "./results.ts";
import { nameOf } from "./verified-tokens.ts";

export interface FallbackOptions {
  /** Without it every fault stays what it is. */
  rest: RestFallback | undefined;
  clock: Clock;
  freshMs: number;
}

const MAX_KEPT = 10_000;

export class Fallback {
  readonly #options: FallbackOptions;
  readonly #answers: Answers<RestVerified>;

  constructor(options: FallbackOptions) {
    this.#options = options;
    this.#answers = new Answers({ now: () => options.clock.monotonic(), max: MAX_KEPT });
  }

  /** Whether REST is to be asked because of this error. */
  replaces(error: unknown): boolean {
    return this.#options.rest !== undefined && isUnreachable(error);
  }

  /** What auth says of a token over REST, instead of an error that it replaces: UNAUTHENTICATED, or the error itself. */
  async verifyToken(
    error: unknown,
    token: string,
    claims: AccessClaims,
    consistencyToken: string,
  ): Promise<RestVerified> {
    const { freshMs } = this.#options;
    const rest = this.#options.rest!;
    const { userId, organizationId = userId } = claims;
    const askAnother = () => rest.getUserLocals({ userId, organizationId });
    const ask = async () => {
      const told = rest.verifyToken(token, consistencyToken);
      return { value: await told.catch((error) => refusedBy(error, askAnother)), keepMs: freshMs };
    };
    try {
      const told = await this.#answers.find(`${nameOf(token)} ${consistencyToken}`, ask);
      // Whatever stands in between may have mixed up two answers.
      if (told.userId === claims.userId) return told;
    } catch (cause) {
      if (ConnectError.from(cause).code === Code.Unauthenticated) throw unauthenticated(cause);
    }
    throw error;
  }

  /** In which branches a member may act, instead of an error that it replaces: NOT_FOUND, or the error itself. */
  async getUserLocals(error: unknown, subject: Subject): Promise<string[]> {
    try {
      return await this.#options.rest!.getUserLocals(subject);
    } catch (cause) {
      throw ConnectError.from(cause).code === Code.NotFound ? cause : error;
    }
  }
}

/** Whether nothing got through: no connection, UNAVAILABLE, or silence. Whatever else was answered stands, if only with a fault. */
function isUnreachable(error: unknown): boolean {
  const { code, cause, isWireError } = ConnectError.from(error);
  // That nobody can tell says nothing; why not does.
  if (reasonOf(error) === "AUTH_STALE" && cause instanceof ConnectError) return isUnreachable(cause);
  // Nobody but us ends our questions, and only for silence.
  if (code === Code.Canceled) return !isWireError;
  return code === Code.Unavailable || code === Code.DeadlineExceeded;
}

/** Refuses by what REST has told, as authorize() does. */
export function requireByRest(
  { active, organizationId, permissions, locals }: RestVerified,
  claims: AccessClaims,
  { permission, branchId }: Partial<RequiredPermission>,
): void {
  // The sessions of an account that may not be used have ended.
  if (!active) throw unauthenticated();
  if (permission === undefined) return;
  if (claims.organizationId === undefined) throw noOrganization();
  const isHeld = organizationId === claims.organizationId && permissions.includes(permission);
  const isInBranch = branchId === undefined || locals.includes(branchId.toLowerCase());
  if (!isHeld || !isInBranch) throw permissionMissing();
}

/** As verifyToken() tells it: without names, which REST does not tell, and without what is held in single branches only. */
export function verifiedByRest(told: RestVerified, { userId, sessionId, expiresAt }: AccessClaims): VerifiedToken {
  const { email, active } = told;
  const counting = active ? told : { organizationId: "", permissions: [], locals: [] };
  return {
    ...{ userId, sessionId, expiresAt, email, firstName: "", lastName: "", active, isActive: active },
    organizationId: counting.organizationId,
    permissions: [...counting.permissions],
    locals: [...counting.locals],
    ...{ localPermissions: [], consistencyToken: "" },
  };
}
