/**
 * The access tokens of a session. One refresh at a time for each organization, whoever asks, in turns with all who share the
 * store: who had to wait takes what another one has stored. A refresh that may have been done is repeated with the same key,
 * and only a refusal by auth itself ends the session.
 */
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import type { Clock } from "../clock.ts";
import { fail, reasonOf } from "../errors.ts";
import { CONSISTENCY_HEADER } from "../rights/revisions.ts";
import type { SimpleLog } from "../simple-log.ts";
import type { TokenSource } from "./session-calls.ts";
import type { SessionState } from "./session-state.ts";
import type { AccessToken, StoredSession } from "./session-store.ts";
import { sessionOf } from "./session-tokens.ts";

/** For one try. The server lets a refresh be repeated for ten seconds, so all tries have to begin within these. */
const TIMEOUT_MS = 3_000;
const TRIES = 3;
const FIRST_PAUSE_MS = 250;
/** After a refresh ahead of time that failed: the access token is still good. */
const AHEAD_PAUSE_MS = 5_000;

export interface RefreshesOptions {
  state: SessionState;
  auth: Client<typeof AuthService>;
  clock: Clock;
  log?: SimpleLog;
}

/** Whose token is wanted, for which organization, and which one is of no use any more. */
interface Wanted {
  userId: string | undefined;
  organizationId: string;
  spent: AccessToken | undefined;
}

export class Refreshes implements TokenSource {
  readonly #state: SessionState;
  readonly #auth: Client<typeof AuthService>;
  readonly #clock: Clock;
  readonly #log: SimpleLog | undefined;
  /** By organization. */
  readonly #underWay = new Map<string, Promise<AccessToken>>();
  /** When the next refresh ahead of time may be tried, after one that failed. */
  #aheadFrom = 0;

  constructor({ state, auth, clock, log }: RefreshesOptions) {
    this.#state = state;
    this.#auth = auth;
    this.#clock = clock;
    this.#log = log;
  }

  /** Refreshed if it has expired; soon before that, it is refreshed on the side. */
  async current(): Promise<AccessToken | undefined> {
    if (!(this.#state.session ?? (await this.#state.look()))) return undefined;
    const { organizationId } = this.#state;
    const token = this.#state.tokenFor(organizationId);
    const now = this.#clock.now();
    if (!token || now >= token.expiresAt) return this.renew(organizationId, token);
    if (now >= Math.max(token.refreshAt, this.#aheadFrom)) void this.#renewAhead(token);
    return token;
  }

  async next(refused: AccessToken): Promise<AccessToken> {
    const { userId, organizationId, token } = refused;
    if (this.#state.session?.userId !== userId) throw signedOut();
    const newest = this.#state.tokenFor(organizationId);
    return newest && newest.token !== token ? newest : this.renew(organizationId, refused);
  }

  /** The token after `spent` in this organization ("" is the person's last one), or the first one there. */
  renew(organizationId: string, spent: AccessToken | undefined): Promise<AccessToken> {
    const underWay = this.#underWay.get(organizationId);
    if (underWay) return underWay;
    const wanted = { userId: this.#state.session?.userId, organizationId, spent };
    const renewal = this.#state
      .exclusively(() => this.#renewInTurn(wanted))
      .finally(() => this.#underWay.delete(organizationId));
    this.#underWay.set(organizationId, renewal);
    return renewal;
  }

  /** Resolves when no refresh is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay.values());
  }

  async #renewAhead(token: AccessToken): Promise<void> {
    this.#aheadFrom = this.#clock.now() + AHEAD_PAUSE_MS;
    try {
      await this.renew(token.organizationId, token);
      this.#aheadFrom = 0;
    } catch (error) {
      this.#log?.warn({ reason: reasonOf(error) }, "an access token could not be refreshed ahead of time");
    }
  }

  async #renewInTurn(wanted: Wanted): Promise<AccessToken> {
    for (let tries = 1; ; tries += 1) {
      const session = await this.#state.look();
      // What one person asked for is not done as another one.
      if (!session || session.userId !== wanted.userId) throw signedOut();
      const found = this.#state.tokenFor(wanted.organizationId);
      if (found && found.token !== wanted.spent?.token && this.#clock.now() < found.refreshAt) return found;
      try {
        return await this.#refresh(session, wanted.organizationId);
      } catch (error) {
        if (tries === TRIES || !mayHaveBeenDone(error)) throw error;
      }
      await pause(Math.random() * FIRST_PAUSE_MS * 2 ** tries);
    }
  }

  async #refresh(session: StoredSession, organizationId: string): Promise<AccessToken> {
    const { audience, seen } = this.#state;
    const { refreshToken, idempotencyKey } = session;
    const sentAt = this.#clock.now();
    const request = { refreshToken, idempotencyKey, audience, organizationId };
    const headers = { [CONSISTENCY_HEADER]: seen.token() };
    const answer = await this.#auth.refreshToken(request, { headers, timeoutMs: TIMEOUT_MS }).catch((error) => {
      return this.#refused(answerOf(error), session, organizationId);
    });
    // Whoever did not wait for their turn may have ended this session meanwhile, or begun another one.
    const stored = await this.#state.look();
    if (stored?.sessionId !== session.sessionId) throw signedOut();
    const renewed = sessionOf(answer, { audience, sentAt }, stored);
    await this.#state.keep(renewed);
    if (organizationId === this.#state.organizationId) this.#state.act(answer.organizationId);
    return renewed.accessTokens[0]!;
  }

  async #refused(error: ConnectError, { refreshToken }: StoredSession, organizationId: string): Promise<never> {
    this.#state.seen.heed(error);
    if (reasonOf(error) === "NO_ORGANIZATION") this.#state.leave(organizationId);
    if (reasonOf(error) === "UNAUTHENTICATED" && (await this.#state.look())?.refreshToken === refreshToken) {
      await this.#state.keep(undefined);
    }
    throw error;
  }
}

/** The error of calls that need somebody, when there is nobody. */
export function signedOut(): ConnectError {
  return fail(Code.Unauthenticated, "UNAUTHENTICATED", "nobody is signed in");
}

/** What auth answers has a reason. Whatever else came says nothing of the session: a proxy may answer 401, too. */
function answerOf(error: unknown): ConnectError {
  if (reasonOf(error) !== undefined) return error as ConnectError;
  return fail(Code.Unavailable, "UNAVAILABLE", "auth cannot be reached", { cause: error, retryAfterMs: 1_000 });
}

function mayHaveBeenDone(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return [Code.Unavailable, Code.DeadlineExceeded, Code.Internal, Code.Unknown, Code.Aborted].includes(code);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
