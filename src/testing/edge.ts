/**
 * The way of a request from the socket to a handler, without a service behind it: the production code of src/rpc/ on a real
 * port, with implementations, limits and answers about sessions that a test chooses. Needs no database.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { v7 as uuidv7 } from "uuid";
import { type Clock, systemClock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { createLogger } from "../log.ts";
import type { Side } from "../rpc/access.ts";
import { createRequestHandler, PUBLIC_LIMITS, type RpcLimits, serviceRoutes } from "../rpc/handler.ts";
import { listen, type RequestHandler } from "../rpc/listener.ts";
import type { StepsOf } from "../rpc/steps.ts";
import type { Implementation } from "../service.ts";
import { createAccessTokenVerifier, signAccessToken } from "../token/access-token.ts";
import { createServiceKey, createSigningKeys } from "../token/key-making.ts";
import { fixedKeyRing } from "../token/key-ring.ts";
import { createServiceTokenVerifier, signServiceToken } from "../token/service-token.ts";
import { createSigner, type KeySet } from "../token/signing-keys.ts";
import type { HeaderLine } from "./http.ts";

export interface EdgeOptions {
  implementations: Implementation[];
  /** Those of the public listener unless told otherwise. */
  limits?: Partial<RpcLimits>;
  /** The internal side tells nobody but holders of a key which paths there are. */
  side?: Side;
  isStarted?: () => boolean;
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
  connectionCount(): number;
  /** The header of a person with a live session. */
  bearer(): HeaderLine;
  /** The header of a service that may call, for one message. */
  serviceToken(procedure: string, digest: string | undefined): HeaderLine;
}

const ISSUER = "http://127.0.0.1";
const signingKeys = createSigningKeys("ES256");

/** Opens the listener. Disposing closes it. */
export async function startEdge(options: EdgeOptions): Promise<Edge> {
  const clock = systemClock;
  const keys = await signingKeys;
  const serviceKey = createServiceKey("caller", "callee", "service");
  const logLines: Record<string, unknown>[] = [];
  const seen: SeenRequest[] = [];
  const handler = createHandler(options, stepsOf(options, keys, serviceKey, clock), clock, logLines);
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    clock,
    handler(request, response) {
      seen.push(watch(request as IncomingMessage, response as ServerResponse));
      handler(request, response);
    },
  });
  return {
    url: listener.url,
    clock,
    seen,
    logLines,
    connectionCount: () => listener.connectionCount(),
    bearer: () => ["authorization", `Bearer ${liveToken(keys, clock)}`],
    serviceToken: (procedure, digest) => ["service-token", signServiceToken(serviceKey, procedure, digest, clock)],
    [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose](),
  };
}

/** The steps of a request as in production, over these keys; every session lives, and spent tokens are kept in memory. */
function stepsOf(options: EdgeOptions, keys: KeySet, serviceKey: ServiceKey, clock: Clock): StepsOf {
  const keyRing = fixedKeyRing(keys);
  const spent = new Set<string>();
  return {
    authentication: {
      mode: "development",
      verifyAccessToken: createAccessTokenVerifier(keyRing, { issuer: ISSUER, clock }),
      keyRing,
      checkSession: () => Promise.resolve(true),
      verifyServiceToken: createServiceTokenVerifier("callee", [serviceKey], clock),
    },
    isStarted: options.isStarted ?? (() => true),
    spendToken: (tokenId) => Promise.resolve(!spent.has(tokenId) && spent.add(tokenId).has(tokenId)),
  };
}

function createHandler(
  { implementations, side = "public", limits }: EdgeOptions,
  steps: StepsOf,
  clock: Clock,
  logLines: Record<string, unknown>[],
): RequestHandler {
  return createRequestHandler({
    routes: serviceRoutes(steps, { ...PUBLIC_LIMITS, ...limits }, (router) => {
      for (const { desc, implementation } of implementations) router.service(desc, implementation);
    }),
    plain: new Map(),
    mayLearnPaths: () => side === "public",
    log: createLogger({
      level: "debug",
      mode: "development",
      clock,
      destination: { write: (line) => void logLines.push(JSON.parse(line)) },
    }),
    clock,
  });
}

/** An access token of somebody new, good for five minutes. */
function liveToken(keys: KeySet, clock: Clock): string {
  const seconds = Math.floor(clock.now() / 1000);
  const claims = { userId: uuidv7(), sessionId: uuidv7(), generation: 0, authenticatedAt: seconds };
  return signAccessToken(createSigner(keys), { issuer: ISSUER, clock }, { ...claims, expiresAt: seconds + 300 });
}

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
  if (request.httpVersion === "1.1") socket.once("close", note);
  return seen;
}
