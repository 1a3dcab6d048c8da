/**
 * A person's session, as a program of that person has it: sign in once, then call. Access tokens are refreshed when they are
 * due, once for all calls of all tabs or processes that share the store, and a refresh whose answer was lost is repeated
 * with the same idempotency key. Runs in Node and in browsers. Nothing of it shows a token but accessToken().
 */
import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  AuthService,
  type ChangePasswordRequestSchema,
  type RegisterArtistRequestSchema,
  type RegisterUserRequestSchema,
} from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { type Clock, systemClock } from "../clock.ts";
import { reasonOf } from "../errors.ts";
import type { SimpleLog } from "../simple-log.ts";
import { callAs } from "./session-calls.ts";
import { Refreshes, signedOut } from "./session-refreshes.ts";
import { SessionState } from "./session-state.ts";
import type { SessionStore, StoredSession } from "./session-store.ts";
import { sessionOf, type TokensAnswer } from "./session-tokens.ts";

export interface SessionOptions {
  /** memoryStore() unless told otherwise: the session then ends with the process or page. */
  store?: SessionStore;
  /** Whom the access tokens are for; Concierge's own services unless told otherwise. */
  audience?: string;
  /** UUID of the organization to act in; the last one of this person unless told otherwise. */
  organizationId?: string;
  clock?: Clock;
  /** Silent unless told otherwise. Never given a token. */
  log?: SimpleLog;
  /** Called each time the session has ended: by logout() here or in another tab, or at the server. */
  onSignedOut?(): void;
}

export interface Credentials {
  email: string;
  password: string;
  /** UUID of the organization to act in, instead of the session's. */
  organizationId?: string;
}

/**
 * Calls that need a person fail with UNAUTHENTICATED once the session has ended. While auth cannot be reached they fail with
 * UNAVAILABLE as soon as the access token has expired, and the session goes on.
 */
export interface Session extends AsyncDisposable {
  readonly state: "signed-in" | "signed-out";
  /** UUID of whoever is signed in. */
  readonly userId: string | undefined;
  /** UUID of the organization that calls are made in; undefined for none. */
  readonly organizationId: string | undefined;
  /** As AuthService.RegisterUser; does not sign in. Returns the UUID of the account, or "" where addresses must be verified. */
  registerUser(details: MessageInitShape<typeof RegisterUserRequestSchema>): Promise<string>;
  /** As AuthService.RegisterArtist; returns as registerUser() does. */
  registerArtist(details: MessageInitShape<typeof RegisterArtistRequestSchema>): Promise<string>;
  /** Starts a session, in place of one that there may be. Errors: those of AuthService.Login. */
  login(credentials: Credentials): Promise<void>;
  /** Forgets the session here in any case. `isEnded` says whether the server could be told; if not, the session lasts there until it expires. */
  logout(): Promise<{ isEnded: boolean }>;
  /** As AuthService.ChangePassword, and goes on with the session that it starts. */
  changePassword(passwords: MessageInitShape<typeof ChangePasswordRequestSchema>): Promise<void>;
  /**
   * Makes the calls that follow in another organization; other tabs and processes stay in theirs.
   * Errors: PERMISSION_DENIED / NO_ORGANIZATION, UNAVAILABLE; then all stays as it was.
   */
  switchOrganization(organizationId: string): Promise<void>;
  /** One that is good now, for calls by other means. */
  accessToken(): Promise<string>;
  /** A client of a public service that calls as this person, or as nobody when signed out. */
  service<Desc extends DescService>(desc: Desc): Client<Desc>;
  /** Calls back after `state`, `userId` or `organizationId` has changed. Returns what ends that. */
  onChange(listener: () => void): () => void;
}

const LOGOUT_TIMEOUT_MS = 3_000;
/** For what checks or makes a password, which may have to wait for its turn. */
const PASSWORD_TIMEOUT_MS = 10_000;

/** Opens the session in the store, or one in which nobody is signed in yet. `close` is called at the end. */
export async function openSession(
  transport: Transport,
  options: SessionOptions = {},
  close: () => void = () => {},
): Promise<Session> {
  const state = new SessionState(options);
  await state.open();
  return new StoreSession(transport, state, options, close);
}

class StoreSession implements Session {
  readonly #auth: Client<typeof AuthService>;
  readonly #state: SessionState;
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  readonly #refreshes: Refreshes;
  readonly #transport: Transport;
  readonly #close: () => void;

  constructor(transport: Transport, state: SessionState, options: SessionOptions, close: () => void) {
    const { clock = systemClock, log } = options;
    this.#auth = createClient(AuthService, transport);
    this.#state = state;
    this.#options = options;
    this.#clock = clock;
    this.#refreshes = new Refreshes({ state, auth: this.#auth, clock, log });
    this.#transport = callAs(this.#refreshes, state.seen, transport);
    this.#close = close;
  }

  get state() {
    return this.#state.session ? "signed-in" : "signed-out";
  }

  get userId() {
    return this.#state.session?.userId;
  }

  get organizationId() {
    return this.#state.organizationId || undefined;
  }

  async registerUser(details: MessageInitShape<typeof RegisterUserRequestSchema>): Promise<string> {
    return (await this.#auth.registerUser(details, { timeoutMs: PASSWORD_TIMEOUT_MS })).userId;
  }

  async registerArtist(details: MessageInitShape<typeof RegisterArtistRequestSchema>): Promise<string> {
    return (await this.#auth.registerArtist(details, { timeoutMs: PASSWORD_TIMEOUT_MS })).userId;
  }

  async login({ email, password, organizationId = this.#options.organizationId ?? "" }: Credentials): Promise<void> {
    const earlier = await this.#state.exclusively(async () => {
      const session = await this.#state.look();
      const { audience, deviceToken } = this.#state;
      const sentAt = this.#clock.now();
      const request = { email, password, audience, deviceToken, organizationId };
      await this.#begin(await this.#auth.login(request, { timeoutMs: PASSWORD_TIMEOUT_MS }), sentAt);
      return session;
    });
    if (earlier) await this.#endAtServer(earlier);
  }

  async logout(): Promise<{ isEnded: boolean }> {
    const ended = await this.#state.exclusively(async () => {
      const session = await this.#state.look();
      await this.#state.keep(undefined);
      return session;
    });
    return { isEnded: !ended || (await this.#endAtServer(ended)) };
  }

  async changePassword(passwords: MessageInitShape<typeof ChangePasswordRequestSchema>): Promise<void> {
    const current = await this.#refreshes.current();
    if (!current) throw signedOut();
    const headers = { authorization: `Bearer ${current.token}` };
    await this.#state.exclusively(async () => {
      // Whoever shares the store may have logged out meanwhile, or somebody else in.
      if ((await this.#state.look())?.userId !== current.userId) throw signedOut();
      const sentAt = this.#clock.now();
      const answer = await this.#auth.changePassword(passwords, { headers, timeoutMs: PASSWORD_TIMEOUT_MS });
      await this.#begin(answer, sentAt);
    });
  }

  async switchOrganization(organizationId: string): Promise<void> {
    if (!(await this.#state.look())) throw signedOut();
    const chosen = organizationId.toLowerCase();
    const token = await this.#refreshes.renew(chosen, this.#state.tokenFor(chosen));
    this.#state.act(token.organizationId);
  }

  async accessToken(): Promise<string> {
    const current = await this.#refreshes.current();
    if (!current) throw signedOut();
    return current.token;
  }

  service<Desc extends DescService>(desc: Desc): Client<Desc> {
    return createClient(desc, this.#transport);
  }

  onChange(listener: () => void): () => void {
    return this.#state.onChange(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#state.close();
    await this.#refreshes.settled();
    this.#close();
  }

  async #begin(answer: TokensAnswer & { deviceToken: string }, sentAt: number): Promise<void> {
    await this.#state.keep(sessionOf(answer, { audience: this.#state.audience, sentAt }), answer.deviceToken);
    this.#state.act(answer.organizationId);
  }

  async #endAtServer({ refreshToken }: StoredSession): Promise<boolean> {
    try {
      await this.#auth.logout({ refreshToken }, { timeoutMs: LOGOUT_TIMEOUT_MS });
      return true;
    } catch (error) {
      this.#options.log?.warn({ reason: reasonOf(error) }, "a session could not be ended at the server");
      return false;
    }
  }
}
