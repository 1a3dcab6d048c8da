/**
 * auth's sessions and auth's feed over a real database, and clients that call the real handlers without a network between them:
 * a test says what becomes of each call on its way. The clock is the callers'; the feed itself goes by the system's.
 */
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { type Client, createClient, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { file_concierge_auth_v1_auth_events } from "../../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { connect } from "../db/connection.ts";
import { openDatabase, transaction } from "../db/database.ts";
import { emit } from "../feed/emit.ts";
import { feedHandlers } from "../feed/handlers.ts";
import { FeedLog } from "../feed/log.ts";
import { eventReaders } from "../feed/readers.ts";
import { Alarm } from "../jobs.ts";
import { createLogger } from "../log.ts";
import { type Call, type CallScope, callKey } from "../rpc/call.ts";
import { register } from "../services/auth/accounts.ts";
import { attemptLimits } from "../services/auth/attempts.ts";
import { DerivedKeys } from "../services/auth/derived-keys.ts";
import { sessionEnded } from "../services/auth/events.ts";
import { authHandlers } from "../services/auth/handlers.ts";
import { login } from "../services/auth/logins.ts";
import { MAIL_TOKENS } from "../services/auth/mails.ts";
import { OwnKeys } from "../services/auth/own-keys.ts";
import { createPasswords } from "../services/auth/passwords.ts";
import { REFRESH_TOKENS } from "../services/auth/refresh-tokens.ts";
import type { AuthContext } from "../services/auth/service.ts";
import { createSessionQuery, logout } from "../services/auth/sessions.ts";
import { TokenVerifications } from "../services/auth/token-verifications.ts";
import { createAccessTokenVerifier } from "../token/access-token.ts";
import { createSigningKeys, createTokenKeys } from "../token/key-making.ts";
import { fixedKeyRing } from "../token/key-ring.ts";
import { createTestClock } from "./clock.ts";
import { testDatabase } from "./cluster.ts";

type Send = Parameters<ReturnType<Interceptor>>[0] extends infer Request
  ? (request: Request) => ReturnType<ReturnType<Interceptor>>
  : never;
type Answer = Awaited<ReturnType<Send>>;

/** What becomes of calls, by the method's name; they just pass where nothing is said. */
export type Faults = Record<
  string,
  ((pass: () => Promise<Answer>, signal: AbortSignal) => Promise<Answer>) | undefined
>;

const ISSUER = "https://auth.example";
const EMAIL = "ann@example.com";
const PASSWORD = "correct horse battery";

/** Opens it with one account. Disposing closes everything. */
export async function openAuth({ accessTokenSeconds = 300, sessionSeconds = 86_400 } = {}) {
  await using opened = new AsyncDisposableStack();
  const clock = createTestClock();
  const database = opened.use(await testDatabase(["platform", "auth"]));
  const logLines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void logLines.push(JSON.parse(line)) };
  const log = createLogger({ level: "info", mode: "development", clock, destination });
  const { runtimeUrl: url, ownerUrl } = database;
  const { db } = opened.use(openDatabase({ url, poolSize: 4, applicationName: "auth-feed" }));
  const feedLog = opened.use(new FeedLog({ service: "auth", url, db, log }));
  feedLog.begin();
  const admin = connect(ownerUrl, { applicationName: "auth-feed" });
  opened.defer(() => admin.end());
  const keys = await createSigningKeys("ES256");
  const tokenKeys = createTokenKeys();
  const own = {
    ...{ db, feed: feedLog, issuer: ISSUER, clock },
    ownKeys: new OwnKeys(keys, db),
    isLive: createSessionQuery(db, sessionSeconds),
    rights: { rightsOf: () => Promise.reject(new Error("nobody can be asked")), follow: () => [] },
  };
  const auth: AuthContext = {
    ...{ ...own, accessTokenSeconds, sessionSeconds },
    clients: {} as AuthContext["clients"],
    verifications: new TokenVerifications({ ...own, log, callerAudiences: [] }),
    passwords: opened.use(await createPasswords({ minLength: 8, minScore: 0, blockedWords: [], queueLength: 64, log })),
    refreshKeys: new DerivedKeys(tokenKeys, REFRESH_TOKENS),
    mailing: {
      isOn: false,
      keys: new DerivedKeys(tokenKeys, MAIL_TOKENS),
      alarm: new Alarm(),
      requestAlarm: new Alarm(),
    },
    requireEmailVerification: false,
    sessionIdleSeconds: sessionSeconds,
    sessionsPerUser: 1_000,
    audiences: [],
    attempts: attemptLimits(tokenKeys, { perAccount: 10, perAddress: 0 }),
    choicePace: () => 0,
  };
  const origin = { requestId: "", address: "127.0.0.1", userAgent: "" };
  const scope = { caller: { kind: "anonymous" }, origin, signal: AbortSignal.timeout(60_000) } as unknown as CallScope;
  const names = { firstName: "", lastName: "", locale: "", stageName: "" };
  await register(auth, scope, { kind: "user", email: EMAIL, password: PASSWORD, ...names });
  const verify = createAccessTokenVerifier(fixedKeyRing(keys), { issuer: ISSUER, clock });
  const resources = opened.move();
  return {
    ...{ clock, ownerUrl, admin, log, logLines, context: auth },
    ...clientsOf(auth, feedLog),
    /** Logs in; the claims are those of the access token. */
    async login() {
      const { accessToken, refreshToken } = await login(auth, scope, {
        email: EMAIL,
        password: PASSWORD,
        audience: "",
        deviceToken: "",
        organizationId: "",
      });
      const verified = verify(accessToken);
      if (!verified.ok) throw new Error(verified.why);
      return { refreshToken, claims: verified.claims };
    },
    logout: (refreshToken: string) => logout(db, scope, refreshToken),
    /** Only the event that a session has ended. */
    async publishEnd(sessionId: string = crypto.randomUUID()) {
      const tokensExpireAt = new Date(clock.now() + accessTokenSeconds * 1_000);
      const ended = { sessionId, userId: crypto.randomUUID(), tokensExpireAt };
      await transaction(db, (tx) => emit(tx, [sessionEnded(ended)]));
    },
    /** As a restore from a backup does, seen from the feed: no cursor of before is good any more. */
    beginNewEpoch: () => admin`update feed_state set restores = restores + 1`,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Clients that call as service `user`, with what becomes of their calls and how many there were. */
function clientsOf(auth: AuthContext, feedLog: FeedLog) {
  const faults: Faults = {};
  const calls: Record<string, number> = {};
  const readers = eventReaders(file_concierge_auth_v1_auth_events);
  const served = { log: feedLog, readers, isStarted: () => true, following: () => Promise.resolve([]) };
  const implementations = [...authHandlers(auth), feedHandlers(new Map([["auth", served]]))];
  const asUser: Interceptor = (next) => (request) => {
    request.contextValues.set(callKey, { caller: { kind: "service", name: "user", callee: "auth" } } as Call);
    return next(request);
  };
  const onTheWay: Interceptor = (next) => (request) => {
    const { name } = request.method as DescMethodUnary;
    calls[name] = (calls[name] ?? 0) + 1;
    const fault = faults[name];
    return fault ? fault(() => next(request), request.signal) : next(request);
  };
  const transport = createRouterTransport(
    (router) => implementations.forEach(({ desc, implementation }) => void router.service(desc, implementation)),
    { router: { interceptors: [asUser] }, transport: { interceptors: [onTheWay] } },
  );
  const feed: Client<typeof FeedInternalService> = createClient(FeedInternalService, transport);
  return { faults, calls, feed, auth: createClient(AuthInternalService, transport) };
}
