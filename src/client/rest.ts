/**
 * What auth tells over plain HTTP (its CONCIERGE_AUTH_REST_PORT), for when RPCs do not get through: the same decisions behind the same service
 * tokens and TLS, with a timeout and connections of its own. Errors are those that the RPC would have ended with. What is not in the form
 * of Concierge comes from something in between, and says nothing: UNAVAILABLE.
 */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { DescMethod } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { codeFromString, codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { AuthService as LegacyAuthService } from "../../gen/auth/auth_service_pb.ts";
import type { Clock } from "../clock.ts";
import { Code, dependencyUnavailable, fail, type Reason } from "../errors.ts";
import { CONSISTENCY_HEADER } from "../rights/revisions.ts";
import { messageDigest, SERVICE_TOKEN_HEADER, type ServiceKey, signServiceToken } from "../token/service-token.ts";

const DEFAULT_TIMEOUT_MS = 2_000;
/** As much as an answer of an RPC may have. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
const MAX_CONNECTIONS = 64;
const REASON = /^[A-Z][A-Z0-9_]{0,62}$/;
const MESSAGES: Partial<Record<Code, string>> = {
  [Code.Unauthenticated]: "unauthenticated",
  [Code.PermissionDenied]: "the caller may not ask this",
  [Code.NotFound]: "there is no such member or organization",
};

const { verifyToken, getUserLocals } = LegacyAuthService.method;

/** Whose token it is. */
export interface RestVerified {
  userId: string;
  /** Empty if the token names none, or one where its person is no member. */
  organizationId: string;
  email: string;
  active: boolean;
  /** Names of those that are held in the whole organization. */
  permissions: string[];
  /** Ids of the open branches in which the person may act. */
  locals: string[];
}

export interface RestFallback {
  /** By what a consistency token says at least, if there is one. UNAUTHENTICATED, UNAVAILABLE. */
  verifyToken(token: string, consistencyToken?: string): Promise<RestVerified>;
  /** Ids of the branches in which a member may act. NOT_FOUND / USER_NOT_FOUND or ORGANIZATION_NOT_FOUND, UNAVAILABLE. */
  getUserLocals(subject: { userId: string; organizationId: string }): Promise<string[]>;
}

export interface RestFallbackOptions {
  /** Such as "https://auth.internal:8001"; with https, nothing ever goes in the clear. */
  url: string;
  /** The key towards auth. */
  key: ServiceKey;
  /** The authorities (PEM) that may certify auth; the well-known ones when not given. */
  ca?: string;
  /** For the whole of a question, its answer included; two seconds unless told otherwise. */
  timeoutMs?: number;
  clock: Clock;
}

/** Disposing closes its connections, and ends what is under way. */
export function createRestFallback(options: RestFallbackOptions): RestFallback & Disposable {
  const { key, clock } = options;
  const connections = new Connections(options);
  const ask = async (method: DescMethod, signed: string, question: Question) => {
    const procedure = `/${method.parent.typeName}/${method.name}`;
    const token = signServiceToken(key, procedure, messageDigest(Buffer.from(signed)), clock);
    const headers = { ...question.headers, [SERVICE_TOKEN_HEADER]: token };
    return readAnswer(await connections.send({ ...question, headers }));
  };
  return {
    async verifyToken(token, consistencyToken = "") {
      // As an RPC sends it: text that is none cannot be, and JSON would have it escaped.
      const body = JSON.stringify({ token: token.toWellFormed() });
      const headers: Record<string, string> = { "content-type": "application/json" };
      if (consistencyToken !== "") headers[CONSISTENCY_HEADER] = consistencyToken;
      return readVerified(await ask(verifyToken, body, { httpMethod: "POST", path: "/auth/verify", headers, body }));
    },
    async getUserLocals({ userId, organizationId }) {
      const path = `/api/v1/users/${harmless(userId)}/locals`;
      const tenant = harmless(organizationId);
      const headers = { "x-tenant-id": tenant };
      return readLocals(await ask(getUserLocals, `${path}\n${tenant}`, { httpMethod: "GET", path, headers }));
    },
    [Symbol.dispose]: () => connections[Symbol.dispose](),
  };
}

/** A UUID as it is. Whatever else somebody takes for an id becomes one that nobody has, and no other path and no other header. */
function harmless(id: string): string {
  return encodeURIComponent(id.toWellFormed()) || "-";
}

interface Question {
  httpMethod: "GET" | "POST";
  path: string;
  headers: Record<string, string>;
  body?: string;
}

interface Answer {
  status: number | undefined;
  body: string;
}

class Connections implements Disposable {
  readonly #url: URL;
  readonly #request: typeof https.request;
  readonly #agent: http.Agent;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();

  constructor({ url, ca, timeoutMs = DEFAULT_TIMEOUT_MS }: RestFallbackOptions) {
    this.#url = new URL(url);
    const isSecure = this.#url.protocol === "https:";
    const kept = { keepAlive: true, maxSockets: MAX_CONNECTIONS };
    // Said, so that no variable of the environment can turn it off.
    const tls = { ca, minVersion: "TLSv1.2", rejectUnauthorized: true } as const;
    this.#agent = isSecure ? new https.Agent({ ...kept, ...tls }) : new http.Agent(kept);
    this.#request = isSecure ? https.request : http.request;
    this.#timeoutMs = timeoutMs;
  }

  /** UNAVAILABLE / DEPENDENCY_UNAVAILABLE if there is no answer in time. */
  async send(question: Question): Promise<Answer> {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#timeoutMs)]);
    try {
      return await this.#exchange(question, signal);
    } catch (error) {
      throw error instanceof ConnectError ? error : dependencyUnavailable(error);
    }
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#agent.destroy();
  }

  async #exchange(question: Question, signal: AbortSignal, mayTryAgain = true): Promise<Answer> {
    const { httpMethod: method, path, headers, body } = question;
    const options = {
      method,
      path: `${this.#url.pathname.replace(/\/$/, "")}${path}`,
      headers,
      agent: this.#agent,
      signal,
    };
    const request = this.#request(this.#url, options);
    request.on("error", () => {}); // told by whom we wait for
    request.end(body);
    try {
      const [response] = (await once(request, "response")) as [http.IncomingMessage];
      return { status: response.statusCode, body: await readBody(response) };
    } catch (error) {
      // The peer ended an idle connection just now. Nothing that is asked here has effects.
      const wasIdle = request.reusedSocket && (error as NodeJS.ErrnoException).code === "ECONNRESET";
      if (wasIdle && mayTryAgain) return this.#exchange(question, signal, false);
      throw error;
    }
  }
}

async function readBody(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw fail(Code.ResourceExhausted, "MESSAGE_TOO_LARGE", "the answer is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

type Json = Record<string, unknown>;

/** What was answered, or the refusal. */
function readAnswer({ status, body }: Answer): Json {
  const json = parseObject(body);
  if (status === 200) return json;
  const { code: name, reason } = json;
  const code = typeof name === "string" ? codeFromString(name) : undefined;
  if (code === undefined || codeToHttpStatus(code) !== status || typeof reason !== "string" || !REASON.test(reason)) {
    throw notUnderstood(`the status ${status} without a reason`);
  }
  if (status >= 500 && code !== Code.Unavailable) throw notUnderstood(`${name} ${reason}`);
  throw fail(code, reason as Reason, MESSAGES[code] ?? "auth refused the question");
}

function parseObject(body: string): Json {
  try {
    const json: unknown = JSON.parse(body);
    if (json instanceof Object) return json as Json;
  } catch {
    // not with the parser's words, which quote the text
  }
  return {};
}

function readVerified({ user_id, organization_id, email, is_active, permissions, locals }: Json): RestVerified {
  if (!isText(user_id) || !isText(organization_id) || !isText(email)) throw notUnderstood("no ids");
  if (typeof is_active !== "boolean") throw notUnderstood("no word on whether the account is active");
  if (!isTexts(permissions) || !isTexts(locals)) throw notUnderstood("no permissions");
  return { userId: user_id, organizationId: organization_id, email, active: is_active, permissions, locals };
}

function readLocals({ locals }: Json): string[] {
  const ids: unknown = Array.isArray(locals) ? locals.map((local: Json | null) => local?.id) : undefined;
  if (!isTexts(ids)) throw notUnderstood("no branches");
  return ids;
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

/** Whoever answered so was not auth, or could not tell. */
function notUnderstood(what: string) {
  return dependencyUnavailable(new Error(`REST answered with ${what}`));
}
