/**
 * The client that createAuthClient() makes: it puts together who decides what, and says in which order they are asked.
 */
import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { OrganizationInternalService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { type Clock, systemClock } from "../clock.ts";
import { toConsistencyToken } from "../rights/revisions.ts";
import type { Subject } from "../rights/rights.ts";
import type { SimpleLog } from "../simple-log.ts";
import type { AccessClaims } from "../token/access-token.ts";
import { FRESH_MS, type SessionSource } from "../token/freshness.ts";
import type { WhenStale } from "../token/session-check.ts";
import type { AuthClient, AuthClientOptions, AuthorizeOptions, Fault } from "./auth-client.ts";
import { Authenticator } from "./authenticator.ts";
import { Connections } from "./connections.ts";
import { SeenRevisions } from "./consistency.ts";
import { Fallback, requireByRest, verifiedByRest } from "./fallback.ts";
import { readServiceKeys } from "./keys.ts";
import { Organizations } from "./organizations.ts";
import { type DecisionOptions, type PermissionQuestion, Permissions } from "./permissions.ts";
import { openRedisRights } from "./redis-rights.ts";
import { type BreakerState, PRESETS } from "./resilience.ts";
import { createRestFallback, type RestFallback, type RestVerified } from "./rest.ts";
import {
  type Organization,
  type Principal,
  permissionsOf,
  principalOf,
  type UserPermissions,
  userNotFound,
  type VerifiedToken,
} from "./results.ts";
import { VerifiedTokens } from "./verified-tokens.ts";

/** A little less than those wait who ask (session-check.ts), so that a silent service is told from a caller who left. */
const QUESTION_TIMEOUT_MS = 900;
const SILENT: SimpleLog = { info() {}, warn() {}, error() {} };

export class FollowingClient implements AuthClient {
  readonly ready: Promise<void>;
  readonly #options: AuthClientOptions;
  readonly #clock: Clock;
  readonly #connections: Connections;
  readonly #authenticator: Authenticator;
  readonly #permissions: Permissions;
  readonly #tokens: VerifiedTokens;
  readonly #organizations: Organizations;
  readonly #shared: ReturnType<typeof openRedisRights> | undefined;
  readonly #rest: (RestFallback & Disposable) | undefined;
  readonly #fallback: Fallback;
  readonly #closed = Promise.withResolvers<never>();

  constructor(options: AuthClientOptions) {
    const { url, ca, issuer, audiences, allowStale = false, freshMs = FRESH_MS, log = SILENT } = options;
    if (!(freshMs > 0 && freshMs <= FRESH_MS))
      throw new RangeError(`freshMs must be more than 0 and at most ${FRESH_MS}`);
    const keys = readServiceKeys(options.keys, ["auth", "access", "organization"]);
    const clock = options.clock ?? systemClock;
    const seen = new SeenRevisions();
    const resilience = { ...PRESETS[options.preset ?? "default"], ...options.resilience };
    const connections = new Connections({ url, keys, ca, clock, seen, resilience, log });
    checkAddresses(connections, options.rest);
    const following = { clock, log, allowStale, freshMs };
    this.#options = options;
    this.#clock = clock;
    this.#connections = connections;
    this.#rest = options.rest && createRestFallback({ ...options.rest, key: keys.get("auth")!, ca, clock });
    this.#fallback = new Fallback({ rest: this.#rest, clock, freshMs });
    this.#shared = options.redis && openRedisRights({ ...options.redis, key: keys.get("access")!, clock, log });
    this.#authenticator = new Authenticator({
      ...{ ...following, url: connections.urlOf("auth"), ca, issuer, audiences },
      auth: sessionSource(connections),
      feed: connections.follower(FeedInternalService, "auth"),
    });
    this.#permissions = new Permissions({
      ...{ ...following, connections, seen, shared: this.#shared },
      onEvents: (source, events) => source === "organization" && this.#organizations.heed(events),
    });
    this.#tokens = new VerifiedTokens({
      ...{ clock, authenticator: this.#authenticator, permissions: this.#permissions },
      auth: connections.client(AuthInternalService),
      onFault: (error) => this.#tell("verifyToken", error),
    });
    this.#organizations = new Organizations({
      organizations: connections.client(OrganizationInternalService),
      freshAt: () => this.#permissions.freshAt("organization"),
      ...{ clock, freshMs },
    });
    this.ready = this.#untilReady();
    this.ready.catch(() => {});
  }

  authenticate(token: string, { whenStale }: { whenStale?: WhenStale } = {}): Promise<Principal> {
    return this.authorize(token, { whenStale });
  }

  async authorize(token: string, options: AuthorizeOptions = {}): Promise<Principal> {
    const { permission, branchId, whenStale = "closed" } = options;
    const isAnybody = !("permission" in options) && branchId === undefined;
    if (!permission && !isAnybody) throw new TypeError("authorize() was given no permission");
    const claims = await this.#authenticator.claimsOf(token);
    try {
      await this.#authenticator.requireLive(claims, whenStale);
      if (permission !== undefined) await this.#permissions.require(claims, { permission, branchId }, options);
    } catch (error) {
      requireByRest(await this.#askRest(error, token, claims, options), claims, options);
    }
    return principalOf(claims);
  }

  async verifyToken(token: string): Promise<VerifiedToken> {
    const claims = await this.#authenticator.claimsOf(token);
    try {
      return await this.#tokens.verify(token, claims);
    } catch (error) {
      return verifiedByRest(await this.#askRest(error, token, claims), claims);
    }
  }

  async decidePermission(question: PermissionQuestion): Promise<"allowed" | "denied" | "unavailable"> {
    try {
      return (await this.#permissions.decide(question)) ? "allowed" : "denied";
    } catch (error) {
      if (ConnectError.from(error).code === Code.InvalidArgument) throw error;
      this.#tell("decidePermission", error);
      return "unavailable";
    }
  }

  async checkPermission(question: PermissionQuestion): Promise<boolean> {
    try {
      return await this.#permissions.decide(question);
    } catch (error) {
      this.#tell("checkPermission", error);
      return false;
    }
  }

  async getUserPermissions(subject: Subject): Promise<UserPermissions> {
    const rights = await this.#permissions.rightsOf(subject);
    if (rights.standing === "none") throw userNotFound();
    return permissionsOf(rights);
  }

  async getUserLocals(subject: Subject): Promise<string[]> {
    try {
      return (await this.getUserPermissions(subject)).locals;
    } catch (error) {
      if (!this.#fallback.replaces(error)) throw error;
      return this.#fallback.getUserLocals(error, subject);
    }
  }

  getOrganization(organizationId: string): Promise<Organization> {
    return this.#organizations.get(organizationId);
  }

  service<Desc extends DescService>(desc: Desc): Client<Desc> {
    return this.#connections.client(desc);
  }

  staleness(): { auth?: number; access?: number; organization?: number } {
    const now = this.#clock.monotonic();
    const age = (freshAt: number | undefined) => (freshAt === undefined ? undefined : now - freshAt);
    return {
      auth: age(this.#authenticator.freshAt),
      access: age(this.#permissions.freshAt("access")),
      organization: age(this.#permissions.freshAt("organization")),
    };
  }

  breakers(): Record<string, BreakerState> {
    return this.#connections.breakers();
  }

  async close(): Promise<void> {
    this.#closed.reject(new ConnectError("the client was closed", Code.Canceled));
    await Promise.all([this.#authenticator[Symbol.asyncDispose](), this.#permissions[Symbol.asyncDispose]()]);
    await this.#shared?.[Symbol.asyncDispose]();
    this.#connections[Symbol.dispose]();
    this.#rest?.[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #untilReady(): Promise<void> {
    await Promise.race([Promise.all([this.#authenticator.ready(), this.#permissions.ready()]), this.#closed.promise]);
  }

  /** What is wanted to be known here is wanted there. */
  async #askRest(
    error: unknown,
    token: string,
    claims: AccessClaims,
    options: DecisionOptions = {},
  ): Promise<RestVerified> {
    if (!this.#fallback.replaces(error)) throw error;
    const wanted = this.#permissions.wantedBy(claims.organizationId, options);
    return this.#fallback.verifyToken(error, token, claims, toConsistencyToken(wanted));
  }

  /** What a listener throws is its own: the answer stands. */
  #tell(operation: Fault["operation"], error: unknown): void {
    try {
      this.#options.onFault?.({ operation, error: ConnectError.from(error) });
    } catch (thrown) {
      this.#options.log?.error({ error: thrown }, "onFault has thrown");
    }
  }
}

/** Before anything is begun. Whoever can keep RPCs away must not get the questions in the clear instead. */
function checkAddresses(connections: Connections, rest: AuthClientOptions["rest"]): void {
  const [auth] = ["auth", "access", "organization"].map((service) => new URL(connections.urlOf(service)));
  const isInClear = rest !== undefined && new URL(rest.url).protocol !== "https:";
  if (isInClear && auth!.protocol === "https:")
    throw new TypeError("rest.url must begin with https, as auth's url does");
}

function sessionSource(connections: Connections): SessionSource {
  const calls = connections.client(AuthInternalService);
  const pages = connections.follower(AuthInternalService, "auth");
  return {
    checkSession: (request, options) => calls.checkSession(request, { ...options, timeoutMs: QUESTION_TIMEOUT_MS }),
    listEndedSessions: (request, options) => pages.listEndedSessions(request, options),
  };
}
