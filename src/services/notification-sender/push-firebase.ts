/**
 * One signed-in session with Firebase: an app of the real SDK, with the SDK's own credential and access token, and its
 * way out. In production it talks to Google over HTTP/2; with a stand-in's endpoint every connection goes there
 * instead, token exchange included. The SDK keeps an access token until it ends whatever FCM says to it, so a refused
 * token is cured by a new session.
 */
import { randomUUID } from "node:crypto";
import { Agent } from "node:https";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import type { Credential } from "firebase-admin/app";
import type { Messaging } from "firebase-admin/messaging";
import { ExitCode, StartupError } from "../../errors.ts";
import type { ServiceAccountKey } from "./push-credentials.ts";

const TOKEN_TIMEOUT_MS = 10_000;

type Sdk = typeof import("firebase-admin/app") & typeof import("firebase-admin/messaging");

export interface FirebaseSession extends AsyncDisposable {
  /** Uses the SDK; the session stays open until the call is settled, whether or not somebody still waits for it. */
  call<T>(use: (messaging: Messaging) => Promise<T>): Promise<T>;
  /** Resolves when there is an access token that calls can use; rejects with google-auth-library's error. */
  fetchToken(): Promise<unknown>;
  /** Closes the session once its calls are settled; a call that still waits for an access token gets none. */
  retire(): void;
  /** Resolves when the session is closed, for whichever reason. */
  readonly closed: Promise<void>;
}

/** Loads the SDK when it is first needed: it takes a good part of a second and tens of megabytes. */
export async function loadSdk(): Promise<Sdk> {
  const [app, messaging] = await Promise.all([import("firebase-admin/app"), import("firebase-admin/messaging")]);
  return { ...app, ...messaging };
}

/** The stand-in's address. Throws a StartupError unless it is a plain `http://host:port`. */
export function parseEndpoint(endpoint: string): URL {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isPlain = url?.protocol === "http:" && `${url.origin}/` === url.href;
  if (!url || !isPlain)
    throw new StartupError("the push stand-in's endpoint must be http://host:port", ExitCode.config);
  return url;
}

/**
 * Opens a session; nothing is sent yet. Disposing it cuts connections to a stand-in at once; requests already at
 * Google end by themselves within 15 s. No late push follows a token exchange that is still under way.
 * Throws a StartupError if the SDK is of another make than this module knows.
 */
export function openSession(sdk: Sdk, key: ServiceAccountKey, endpoint: URL | undefined): FirebaseSession {
  const retired = new AbortController();
  const agent = endpoint && new StandInAgent(endpoint);
  const credential = createCredential(sdk, key, agent, retired.signal);
  const options = { credential, projectId: key.project_id, ...(agent && { httpAgent: agent }) };
  const app = sdk.initializeApp(options, `concierge-push-${randomUUID()}`);
  const messaging = sdk.getMessaging(app);
  // Over HTTP/2 the SDK heeds no agent. Only a stand-in needs this switch, which the SDK calls deprecated.
  if (agent) messaging.enableLegacyHttpTransport();
  leaveRetriesToUs(messaging);

  const closed = Promise.withResolvers<void>();
  let isClosed = false;
  let callCount = 0;
  function close(): Promise<void> {
    retired.abort();
    if (!isClosed) closed.resolve(sdk.deleteApp(app));
    isClosed = true;
    agent?.close();
    return closed.promise;
  }
  return {
    closed: closed.promise,
    fetchToken: () => credential.getAccessToken(),
    async call(use) {
      callCount += 1;
      try {
        return await use(messaging);
      } finally {
        callCount -= 1;
        if (retired.signal.aborted && callCount === 0) void close();
      }
    },
    retire() {
      retired.abort();
      if (callCount === 0) void close();
    },
    [Symbol.asyncDispose]: close,
  };
}

/** What this module uses of the SDK's service-account credential and of google-auth-library's client inside it. */
interface SdkCredential extends Credential {
  getGoogleAuth?(): unknown;
  readonly authClient?: { transporter?: { defaults?: object } };
}

/**
 * The SDK's own credential, which gives no token to a retired session, and has a limit for its token exchange: by
 * itself it has none, and one that hangs would be joined by every later one. For a key that is not a file, `cert()`
 * takes no option of the transport (14.5.1 drops even the agent), so they are set where google-auth-library keeps
 * them. (An abort signal is none of them: node-fetch 3 lets one that comes early crash the process.) The SDK prints a
 * deprecation of its own here.
 */
function createCredential(
  sdk: Sdk,
  key: ServiceAccountKey,
  agent: Agent | undefined,
  retired: AbortSignal,
): Credential {
  // cert() keeps credentials for the process's life, by their JSON: with the same one would come the same old token.
  const uniqueKey = { ...key, concierge_session: randomUUID() };
  const credential: SdkCredential = sdk.cert(uniqueKey as object);
  credential.getGoogleAuth?.();
  const transporter = credential.authClient?.transporter;
  if (!transporter) throw new StartupError("this firebase-admin keeps its token client elsewhere", ExitCode.failure);
  // No retries: the sender decides when it asks again.
  transporter.defaults = { timeout: TOKEN_TIMEOUT_MS, retryConfig: { retry: 0 }, ...(agent && { agent }) };
  return {
    async getAccessToken() {
      const token = await credential.getAccessToken();
      retired.throwIfAborted();
      return token;
    },
  };
}

/**
 * The SDK tries a 503 five times, over 7 s, and with a Retry-After for up to 4 minutes. A batch that was given up here
 * (timeout, lease lost, shutdown) would still be sent later, by the SDK's own delayed retry, beside the sender's next
 * try; and sendEach answers when its slowest message has, so one such device would hold back 499 known results past
 * any lease. When a push is tried again is notification's decision. There is no public setting; where this field moves (a
 * test tells), the SDK's retries are back and nothing else changes.
 */
function leaveRetriesToUs(messaging: Messaging): void {
  const handler: unknown = Reflect.get(messaging, "messagingRequestHandler");
  if (typeof handler !== "object" || handler === null) return;
  for (const field of ["httpClient", "http2Client"]) {
    const client: unknown = Reflect.get(handler, field);
    const retry: unknown = typeof client === "object" && client !== null ? Reflect.get(client, "retry") : undefined;
    if (typeof retry === "object" && retry !== null) Reflect.set(retry, "maxRetries", 0);
  }
}

const GOOGLE_HOSTS = ["fcm.googleapis.com", "oauth2.googleapis.com"];
/** As many as FCM takes pushes in one call: what waited here for a socket might be written when its lease is long over. */
const MAX_SOCKETS = 500;

/** Leads what the SDK believes to be TLS to Google over plain TCP to the stand-in, and nothing anywhere else. */
class StandInAgent extends Agent {
  readonly #endpoint: URL;
  #closed = false;

  constructor(endpoint: URL) {
    super({ keepAlive: true, maxSockets: MAX_SOCKETS, maxFreeSockets: MAX_SOCKETS });
    this.#endpoint = endpoint;
  }

  override createConnection(
    options: { host?: string | null },
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | undefined {
    if (GOOGLE_HOSTS.includes(options.host ?? "") && !this.#closed) {
      const host = this.#endpoint.hostname.replace(/^\[|\]$/g, "");
      return connect({ host, port: Number(this.#endpoint.port || 80) });
    }
    const refusal = new Error(
      this.#closed ? "the push session is closed" : "only FCM and its token endpoint are led to the stand-in",
    );
    // Node's callback type wants a stream even with an error.
    callback?.(refusal, undefined as unknown as Duplex);
    return undefined;
  }

  /** Cuts every connection; what waits for one is refused. */
  close(): void {
    this.#closed = true;
    this.destroy();
  }
}
