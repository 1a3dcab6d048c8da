/**
 * A stand-in for Firebase Cloud Messaging, for development, demos and tests: a real HTTP server that speaks FCM's HTTP
 * v1 send and Google's token endpoint, checks what they check, and writes each accepted push to a ledger before it
 * answers. It fails on demand (push-stand-in-faults.ts), and shows what it accepted (push-stand-in-desk.ts). It listens on
 * the loopback, unless a container network needs more, and never runs in production.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { setTimeout } from "node:timers/promises";
import type { Clock } from "../clock.ts";
import { openPort } from "../listener/open-port.ts";
import type { ServiceAccountIdentity } from "./push-stand-in-account.ts";
import { type Desk, openDesk } from "./push-stand-in-desk.ts";
import { Faults } from "./push-stand-in-faults.ts";
import { type Ledger, openLedger } from "./push-stand-in-ledger.ts";
import {
  type Answer,
  type FcmMessage,
  googleError,
  readSendRequest,
  unauthenticated,
} from "./push-stand-in-message.ts";
import { createTokenIssuer, type TokenIssuer } from "./push-stand-in-token.ts";

export type { ServiceAccountKey } from "../services/notification-sender/push-credentials.ts";
export type { ServiceAccountIdentity } from "./push-stand-in-account.ts";
export { createServiceAccount, identityOf } from "./push-stand-in-account.ts";
export type { LedgerEntry } from "./push-stand-in-ledger.ts";
export { readLedger } from "./push-stand-in-ledger.ts";

export interface PushStandInOptions {
  /** Address to bind; the default is 127.0.0.1. */
  host?: string;
  /** 0, the default, takes a free one. */
  port?: number;
  /** Hosts by which it is reached, beside 127.0.0.1 and localhost. */
  names?: readonly string[];
  /** Where accepted pushes are written, one JSON line each. Made if missing, appended to otherwise. */
  ledgerFile: string;
  /** Life of assertions and bearer tokens. The SDK signs with the wall clock: more than 5 minutes off is refused. */
  clock: Clock;
  /** The only account that may send; `identityOf(key)` of what the sender was given. */
  serviceAccount: ServiceAccountIdentity;
  /** The only Firebase project there is. */
  projectId: string;
}

export interface PushStandIn extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
}

interface StandInState {
  projectId: string;
  clock: Clock;
  issuer: TokenIssuer;
  ledger: Ledger;
  faults: Faults;
  desk: Desk;
  stopping: AbortController;
}

/** Longer than anybody leaves one unused. */
const KEEP_ALIVE_MS = 3_600_000;
const LOOPBACK = "127.0.0.1";
const MAX_BODY_BYTES = 1024 * 1024;
const SEND_PATH = /^\/v1\/projects\/([^/]+)\/messages:send$/;

/**
 * Starts the stand-in; resolves when it listens. Stopping cuts open connections and closes the ledger. Throws a StartupError
 * (exit code 69) when the port cannot be had.
 */
export async function startPushStandIn(options: PushStandInOptions): Promise<PushStandIn> {
  const { projectId, clock } = options;
  await using opened = new AsyncDisposableStack();
  const issuer = await createTokenIssuer(options.serviceAccount, clock);
  const ledger = opened.use(await openLedger(options.ledgerFile));
  const faults = new Faults();
  const desk = await openDesk(faults, ledger, options.names);
  const state = { projectId, clock, issuer, ledger, faults, desk, stopping: new AbortController() };
  const server = createServer((request, response) => void handle(state, request, response));
  // A connection that is closed just as it is used again loses a push, which then waits for its next try.
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const port = await openPort(server, options.host ?? LOOPBACK, options.port ?? 0);
  opened.defer(() => stop(server, state));
  const resources = opened.move();
  return { url: `http://${LOOPBACK}:${port}`, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

async function stop(server: Server, { stopping }: StandInState): Promise<void> {
  stopping.abort();
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

async function handle(state: StandInState, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const answer = await route(state, request);
    if (answer === "cut") return void response.destroy();
    const { status, headers, body } = answer;
    response.writeHead(status, { "content-type": "application/json; charset=UTF-8", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  } catch {
    // The client went away, or the ledger could not be written: nothing was accepted, so nothing may be answered.
    response.destroy();
  }
}

/** The answer to a request; "cut" closes the connection instead. */
async function route(state: StandInState, request: IncomingMessage): Promise<Answer | "cut"> {
  const [path = ""] = (request.url ?? "").split("?", 1);
  const body = await readBody(request);
  if (body === undefined) return googleError(413, "INVALID_ARGUMENT", "Request payload size exceeds the limit.");
  const fromDesk = state.desk.answer(request, body);
  if (fromDesk) return fromDesk;
  if (request.method === "POST" && path === "/token") {
    return state.faults.ofKey() ?? state.issuer.exchange(new URLSearchParams(body));
  }
  const [, project] = SEND_PATH.exec(path) ?? [];
  if (request.method !== "POST" || project === undefined) {
    return googleError(404, "NOT_FOUND", "The requested URL was not found on this server.");
  }
  if (!(await state.issuer.accepts(request.headers.authorization))) return unauthenticated();
  if (project !== state.projectId) return permissionDenied(project);
  const read = readSendRequest(parseJson(body));
  if ("refusal" in read) return read.refusal;
  return read.validateOnly ? pretend(state, read.message) : accept(state, read.message);
}

/** `validate_only`: every check and refusal, nothing kept. */
function pretend(state: StandInState, message: FcmMessage): Answer {
  const name = `projects/${state.projectId}/messages/fake_message_id`;
  return state.faults.ofPush(deviceOf(message)).refusal ?? { status: 200, body: { name } };
}

async function accept(state: StandInState, message: FcmMessage): Promise<Answer | "cut"> {
  const fault = state.faults.ofPush(deviceOf(message));
  if (fault.refusal) return fault.refusal;

  const { projectId: project, clock, ledger } = state;
  const name = `projects/${project}/messages/${randomUUID()}`;
  const token = typeof message.token === "string" ? message.token : undefined;
  await ledger.append({ time: new Date(clock.now()).toISOString(), name, project, token, message });
  if (fault.dropAnswer) return "cut";
  if (fault.delayMs !== undefined) await delay(fault.delayMs, state.stopping.signal);
  return { status: 200, body: { name } };
}

/** Faults go by the registration token or the installation id. */
function deviceOf(message: FcmMessage): string {
  return String(message.token ?? message.fid ?? "");
}

/** Waits, but not past the stop, even one that came first. */
async function delay(delayMs: number, signal: AbortSignal): Promise<void> {
  await setTimeout(delayMs, undefined, { signal }).catch(() => undefined);
}

function permissionDenied(project: string): Answer {
  const resource = `//cloudresourcemanager.googleapis.com/projects/${project}`;
  const message = `Permission 'cloudmessaging.messages.create' denied on resource '${resource}' (or it may not exist).`;
  const detail = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "IAM_PERMISSION_DENIED" };
  return googleError(403, "PERMISSION_DENIED", message, [detail]);
}

/** The body as text; undefined if it is larger than any push could be. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  return sizeBytes > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks).toString("utf8");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
