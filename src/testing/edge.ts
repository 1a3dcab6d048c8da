/**
 * The way of a request from the socket to a handler, without a service behind it: the production code of src/rpc/ on a real
 * port, with implementations, limits and answers about sessions that a test chooses. Needs no database.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import { v7 as uuidv7 } from "uuid";
import { type Clock, systemClock } from "../clock.ts";
import { loadConfig, type ServiceKey } from "../config.ts";
import { listen } from "../listener/listener.ts";
import { createLogger } from "../log.ts";
import type { RightsWatch } from "../rights/rights-watch.ts";
import type { Side } from "../rpc/access.ts";
import type { Accounting } from "../rpc/accounting.ts";
import { withCors } from "../rpc/cors.ts";
import { createRequestHandlers, type RequestHandlers } from "../rpc/handler.ts";
import { createRateLimit } from "../rpc/overload.ts";
import { createRoutes, limitsOf, type RpcLimits } from "../rpc/routes.ts";
import type { StepsOf } from "../rpc/steps.ts";
import type { Implementation } from "../service.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";
import { createTracing } from "../telemetry/traces.ts";
import { createAccessTokenVerifier, signAccessToken } from "../token/access-token.ts";
import { createServiceKey, createSigningKeys } from "../token/key-making.ts";
import { fixedKeyRing } from "../token/key-ring.ts";
import { createServiceTokenVerifier, signServiceToken } from "../token/service-token.ts";
import type { SessionCheck } from "../token/session-check.ts";
import { createSigner, type KeySet } from "../token/signing-keys.ts";
import type { HeaderLine } from "./http.ts";

export interface EdgeOptions {
  implementations: Implementation[];
  /** The defaults of the public listener unless told otherwise. */
  limits?: Partial<RpcLimits>;
  /** The internal side tells nobody but holders of a key which paths there are. */
  side?: Side;
  isStarted?: () => boolean;
  /** Plain unary calls over HTTP/2 take the short way unless told otherwise. */
  fastPath?: boolean;
  /** Calls per second of one address; any number unless told otherwise. */
  requestsPerSecond?: number;
  /** Ends streams. */
  stopping?: AbortSignal;
  /** Origins of pages that may call from a browser; none unless told otherwise. */
  allowedOrigins?: string[];
  /** The system's unless told otherwise. */
  clock?: Clock;
  /** Which sessions live; all of them unless told otherwise. */
  checkSession?: SessionCheck;
  /** Tells of sessions that end; nothing does unless told otherwise. */
  onSessionEnded?: StepsOf["authentication"]["onSessionEnded"];
  /** What people may do; of a service without permissions nobody asks. */
  rights?: RightsWatch;
}

/** What the server did with a request's body. */
export interface SeenRequest {
  /** False while nobody asked for a byte of it. */
  bodyRead: boolean;
  /** Bytes that were read from its connection until the answer was over; headers and framing included. */
  bytesRead: number;
}

export interface Edge extends AsyncDisposable {
  readonly url: string;
  readonly clock: Clock;
  /** One for each request, in order of arrival. */
  readonly seen: SeenRequest[];
  readonly logLines: Record<string, unknown>[];
  readonly metrics: Metrics;
  connectionCount(): number;
  /** The header of a person with a live session, good for five minutes, who may act in an organization. */
  bearer(organizationId?: string): HeaderLine;
  /** The header of a service that may call, for one message. */
  serviceToken(procedure: string, digest: string | undefined): HeaderLine;
}

/** The platform's settings where nobody has set any. */
export const { platform: defaultPlatform } = loadConfig({
  env: {},
  readFile: () => "",
  stat: () => ({ mode: 0 }),
  services: {},
  start: [],
});

const ISSUER = "http://127.0.0.1";
const signingKeys = createSigningKeys("ES256");

/** Opens the listener. Disposing closes it. */
export async function startEdge(options: EdgeOptions): Promise<Edge> {
  const { clock = systemClock } = options;
  const keys = await signingKeys;
  const serviceKey = createServiceKey("caller", "callee", "service");
  const logLines: Record<string, unknown>[] = [];
  const seen: SeenRequest[] = [];
  const log = createLogger({
    level: "debug",
    mode: "development",
    clock,
    destination: {
      write(line) {
        const parsed = JSON.parse(line);
        // It is said of a busy machine, and of no call.
        if (parsed.msg !== "the event loop was held up") logLines.push(parsed);
      },
    },
  });
  await using opened = new AsyncDisposableStack();
  const metrics = opened.use(createMetrics({ log }));
  const tracing = opened.use(await createTracing({ url: undefined, ratio: 0, serviceName: "edge", clock, log }));
  const service = stepsOf(options, keys, serviceKey, clock);
  const handlers = createHandlers(options, service, { log, clock, metrics, tracing, trustsTraces: false });
  const answer = withCors(options.allowedOrigins ?? [], handlers.answer);
  const listener = opened.use(
    await listen({
      host: "127.0.0.1",
      port: 0,
      clock,
      handler(request, response, peer) {
        seen.push(watch(request as IncomingMessage, response as ServerResponse));
        answer(request, response, peer);
      },
      takeStream(stream, ...rest) {
        // Before it is taken: the reading may begin at once.
        const watched = watchStream(stream);
        const wasTaken = handlers.takeStream?.(stream, ...rest) ?? false;
        if (wasTaken) seen.push(watched);
        return wasTaken;
      },
    }),
  );
  const resources = opened.move();
  return {
    url: listener.url,
    clock,
    seen,
    logLines,
    connectionCount: () => listener.connectionCount(),
    bearer: (organizationId) => ["authorization", `Bearer ${liveToken(keys, clock, organizationId)}`],
    serviceToken: (procedure, digest) => ["service-token", signServiceToken(serviceKey, procedure, digest, clock)],
    metrics,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Where no method asks for a permission. */
export const nobodysRights: RightsWatch = {
  rightsOf: () => Promise.reject(new Error("nobody was asked to decide here")),
  follow: () => [],
};

/** The steps of a request as in production, over these keys; every session lives, and spent tokens are kept in memory. */
function stepsOf(options: EdgeOptions, keys: KeySet, serviceKey: ServiceKey, clock: Clock): StepsOf {
  const keyRing = fixedKeyRing(keys);
  const spent = new Set<string>();
  return {
    authentication: {
      mode: "development",
      verifyAccessToken: createAccessTokenVerifier(keyRing, { issuer: ISSUER, clock }),
      keyRing,
      checkSession: options.checkSession ?? (() => Promise.resolve(true)),
      onSessionEnded: options.onSessionEnded,
      rights: options.rights ?? nobodysRights,
      verifyServiceToken: createServiceTokenVerifier("callee", [serviceKey], clock),
    },
    isStarted: options.isStarted ?? (() => true),
    spendToken: (tokenId) => Promise.resolve(!spent.has(tokenId) && spent.add(tokenId).has(tokenId)),
  };
}

function createHandlers(
  { implementations, side = "public", limits, fastPath = true, requestsPerSecond = 0, stopping }: EdgeOptions,
  service: StepsOf,
  accounting: Accounting,
): RequestHandlers {
  return createRequestHandlers({
    routes: createRoutes({ ...limitsOf("public", defaultPlatform), ...limits }, [{ service, implementations }]),
    plain: new Map(),
    mayLearnPaths: () => side === "public",
    rateLimit: createRateLimit(requestsPerSecond, accounting.clock),
    refusesAtOnce: side === "public",
    stopping: stopping ?? new AbortController().signal,
    fastPath,
    ...accounting,
  });
}

/** An access token of somebody new, good for five minutes. */
function liveToken(keys: KeySet, clock: Clock, organizationId: string | undefined): string {
  const seconds = Math.floor(clock.now() / 1000);
  const person = { userId: uuidv7(), sessionId: uuidv7(), organizationId };
  const claims = { ...person, generation: 0, authenticatedAt: seconds };
  return signAccessToken(createSigner(keys), { issuer: ISSUER, clock }, { ...claims, expiresAt: seconds + 300 });
}

const lastNotes = new WeakMap<object, () => void>();

/** Notes whether and how far a request is read. A request is read by iterating over it, and in no other way. */
function watch(request: IncomingMessage, response: ServerResponse): SeenRequest {
  const { socket } = request;
  const seen: SeenRequest = { bodyRead: false, bytesRead: 0 };
  const iterate = request[Symbol.asyncIterator].bind(request);
  request[Symbol.asyncIterator] = () => {
    seen.bodyRead = true;
    return iterate();
  };
  const note = () => {
    // An HTTP/2 session that is gone does not say any more.
    seen.bytesRead = socket.bytesRead ?? seen.bytesRead;
  };
  response.once("close", note);
  if (request.httpVersion === "1.1") {
    // What comes after the last answer counts, too.
    const previous = lastNotes.get(socket);
    if (previous) socket.off("close", previous);
    socket.once("close", note);
    lastNotes.set(socket, note);
  }
  return seen;
}

/** The same for a stream that takes the short way: it is read by listening to its data. */
function watchStream(stream: ServerHttp2Stream): SeenRequest {
  const { session } = stream;
  const seen: SeenRequest = { bodyRead: false, bytesRead: 0 };
  stream.on("newListener", (event) => {
    if (event === "data") seen.bodyRead = true;
  });
  stream.once("close", () => {
    seen.bytesRead = session?.destroyed ? 0 : (session?.socket.bytesRead ?? 0);
  });
  return seen;
}
