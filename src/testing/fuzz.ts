/**
 * Mutation fuzzing of a running server, or of two that must answer alike. Whatever is sent, no answer may say that the fault
 * is the server's. A run is made of its seed: case n of a seed is the same bytes every time.
 */
import type http2 from "node:http2";
import net from "node:net";
import { gunzipSync } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { reasonOf } from "../errors.ts";
import type { FuzzRequest } from "./fuzz-corpus.ts";
import { mutate, mutateConnection } from "./fuzz-mutations.ts";
import { type HeaderLine, type HttpAnswer, openHttp2, sendHttp, sendOverHttp2 } from "./http.ts";
import { Random } from "./seeded.ts";
import { FRAME_HEADER_BYTES, takeFramesApart } from "./wire.ts";

export interface FuzzOptions {
  seed: number;
  /** Valid requests that every server here answers with success. */
  corpus: readonly FuzzRequest[];
  /** One server, or two that must answer alike. */
  urls: readonly string[];
  /** Cases to make at most. */
  cases: number;
  /** The first case: with `cases` 1, one is repeated alone. */
  from?: number;
  /** Ends the run before that. */
  signal?: AbortSignal;
}

export interface FuzzReport {
  cases: number;
  /** Requests that were answered or refused, on all servers together; damaged connections count once. */
  requests: number;
  /** Cases whose answers were compared: not those that ran out of their own time on one of the servers. */
  compared: number;
  late: number;
  /** How often each outcome was seen, such as "200" or "400 InvalidArgument MALFORMED_MESSAGE". */
  outcomes: Map<string, number>;
  /** What must not happen, a line for each: case, request, outcome. */
  problems: string[];
}

/** What a client can tell of an answer. Without one, `status` is 0 and `reason` says how it ended. */
export interface Outcome {
  status: number;
  code?: Code;
  reason?: string;
}

const CONCURRENCY = 32;
const MAX_PROBLEMS = 20;
const CONNECTION_TIMEOUT_MS = 15_000;
const COMPRESSED = 1;
const END_OF_STREAM = 2;
/** Of eight cases, one is damage to a connection's bytes; its answers cannot be told apart, so they are not compared. */
const CONNECTION_SHARE = 8;
/** HTTP's own refusals among the 5xx, with what they stand for. */
const HTTP_REFUSALS = new Map<number, Code | undefined>([
  [501, Code.Unimplemented],
  [504, Code.DeadlineExceeded],
  [505, undefined],
]);
/** What only a fault of ours is called; also what this reader calls an answer that it cannot read. */
const FAULTS = new Set<Code | undefined>([Code.Internal, Code.Unknown, Code.DataLoss]);

/** Sends case after case until there are enough, the signal aborts, or too much is wrong. */
export async function fuzz(options: FuzzOptions): Promise<FuzzReport> {
  const report: FuzzReport = { cases: 0, requests: 0, compared: 0, late: 0, outcomes: new Map(), problems: [] };
  using targets = new Targets(options.urls);
  const from = options.from ?? 0;
  const isOver = () =>
    report.cases >= options.cases || options.signal?.aborted || report.problems.length >= MAX_PROBLEMS;
  const work = async () => {
    while (!isOver()) await runCase(from + report.cases++, options, targets, report);
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, options.cases) }, work));
  return report;
}

/** Sends the corpus as it is, to be sure that what is damaged later was right: the requests that were not answered well. */
export async function checkCorpus({ corpus, urls }: Pick<FuzzOptions, "corpus" | "urls">): Promise<string[]> {
  using targets = new Targets(urls);
  const problems: string[] = [];
  for (const request of corpus) {
    for (const outcome of await targets.send(request)) {
      if (outcome.status !== 200 || outcome.code !== undefined) problems.push(`${request.what}: ${nameOf(outcome)}`);
    }
  }
  return problems;
}

async function runCase(index: number, { seed, corpus }: FuzzOptions, targets: Targets, report: FuzzReport) {
  const random = new Random(seed, index);
  const original = random.pick(corpus);
  if (random.oneIn(CONNECTION_SHARE)) {
    const second = random.pick(corpus.filter(({ http }) => http === original.http));
    const outcomes = await targets.sendBytes((host) => mutateConnection(original, second, host, random));
    report.requests += outcomes.length;
    for (const outcome of outcomes) judge(`case ${index}: bytes of ${original.what}`, outcome, report);
    return;
  }
  const request = mutate(original, corpus, random);
  const outcomes = await targets.send(request);
  report.requests += outcomes.length;
  const what = `case ${index}: ${describe(request)}`;
  const mayBeInternal = isCompressedUnannounced(request);
  for (const outcome of outcomes) judge(what, outcome, report, mayBeInternal);
  compare(what, outcomes, report);
}

/** gRPC and Connect both want INTERNAL for a message that says it is compressed where no compression was announced. */
function isCompressionMistake({ code, reason }: Outcome): boolean {
  return code === Code.Internal && reason === "MALFORMED_MESSAGE";
}

/** Whether a frame of the body says so, and no header names how. HTTP/2 drops a value that begins or ends with a space. */
function isCompressedUnannounced({ http, headers, body }: FuzzRequest): boolean {
  const announced = headers.some(([name, value]) => {
    if (!/^(grpc|connect-content)-encoding$/i.test(name) || ["", "identity"].includes(value.trim())) return false;
    return http === "1.1" || value === value.trim();
  });
  if (announced) return false;
  for (let at = 0; at + FRAME_HEADER_BYTES <= body.length; at += FRAME_HEADER_BYTES + body.readUInt32BE(at + 1)) {
    if ((body[at]! & COMPRESSED) !== 0) return true;
  }
  return false;
}

function judge(what: string, outcome: Outcome, { outcomes, problems }: FuzzReport, mayBeInternal = false): void {
  const name = nameOf(outcome);
  outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
  const isRefusal = HTTP_REFUSALS.has(outcome.status) && HTTP_REFUSALS.get(outcome.status) === outcome.code;
  const isFault = FAULTS.has(outcome.code) && !(mayBeInternal && isCompressionMistake(outcome));
  if ((outcome.status >= 500 && !isRefusal) || isFault) problems.push(`${what}: ${name}`);
}

function compare(what: string, outcomes: Outcome[], report: FuzzReport): void {
  const names = new Set(outcomes.map(nameOf));
  if (outcomes.some(({ code }) => code === Code.DeadlineExceeded)) report.late++;
  else if (outcomes.length > 1) {
    report.compared++;
    if (names.size > 1) report.problems.push(`${what}: answered differently: ${[...names].join(" | ")}`);
  }
}

function nameOf({ status, code, reason }: Outcome): string {
  return [status, code === undefined ? undefined : Code[code], reason].filter((part) => part !== undefined).join(" ");
}

function describe({ what, httpMethod, path, headers, body }: FuzzRequest): string {
  const lines = headers.map(([name, value]) => `${name}: ${value.slice(0, 60)}`).filter((line) => !/^auth/i.test(line));
  return `${what} as ${JSON.stringify({ httpMethod, path: path.slice(0, 200), lines, body: body.toString("base64url") })}`;
}

/** The servers, with the HTTP/2 connection that each is called over. */
class Targets implements Disposable {
  readonly #urls: readonly string[];
  readonly #sessions = new Map<string, http2.ClientHttp2Session>();

  constructor(urls: readonly string[]) {
    this.#urls = urls;
  }

  send(request: FuzzRequest): Promise<Outcome[]> {
    return Promise.all(this.#urls.map((url) => this.#sendTo(url, request)));
  }

  sendBytes(bytesFor: (host: string) => Buffer): Promise<Outcome[]> {
    // Every server gets the same bytes: the host in them is the first one's.
    const bytes = bytesFor(new URL(this.#urls[0]!).host);
    return Promise.all(this.#urls.map((url) => exchange(url, bytes)));
  }

  async #sendTo(url: string, request: FuzzRequest): Promise<Outcome> {
    try {
      if (request.http === "1.1") return outcomeOf(await sendHttp("1.1", url, request), request);
      const session = this.#session(url);
      const answer = sendOverHttp2(session, new URL(url).host, request);
      // Another request may have cost us the connection: then this one is told apart by having one of its own.
      return outcomeOf(await answer.catch((error) => this.#again(session, url, request, error)), request);
    } catch (error) {
      return { status: 0, reason: (error as NodeJS.ErrnoException).code ?? (error as Error).message };
    }
  }

  #again(session: http2.ClientHttp2Session, url: string, request: FuzzRequest, error: unknown): Promise<HttpAnswer> {
    if (session.destroyed || session.closed) return sendHttp("2", url, request);
    throw error;
  }

  #session(url: string): http2.ClientHttp2Session {
    const open = this.#sessions.get(url);
    if (open && !open.closed && !open.destroyed) return open;
    const session = openHttp2(url);
    session.setMaxListeners(0);
    this.#sessions.set(url, session);
    return session;
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.values()) session.destroy();
  }
}

let exchanges = 0;

/**
 * Sends bytes, ends our side, and reads until the server has ended its own. Each time from another address: what looks like a
 * flood keeps an address out for a while, and the damage after it would not be looked at.
 */
async function exchange(url: string, bytes: Buffer): Promise<Outcome> {
  const { hostname, port } = new URL(url);
  const localAddress = `127.1.${(exchanges >> 8) & 0xff}.${exchanges & 0xff}`;
  exchanges++;
  const socket = net.connect({ host: hostname, port: Number(port), localAddress, allowHalfOpen: true });
  socket.setTimeout(CONNECTION_TIMEOUT_MS, () => socket.destroy());
  let answer = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    if (answer.length < 100_000) answer += text;
  });
  socket.on("error", () => {}); // it was cut: "close" follows
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.end(bytes);
  await closed;
  // HTTP/2 answers are packed; there the server's log says what it did.
  const statuses = Array.from(answer.matchAll(/HTTP\/1\.1 (\d{3}) /g), ([, status]) => Number(status));
  const status = Math.max(0, ...statuses);
  return status === 0 ? { status, reason: "connection" } : { status, code: HTTP_REFUSALS.get(status) };
}

/** Reads an answer in the protocol that it says it is in. */
function outcomeOf(answer: HttpAnswer, { httpMethod }: FuzzRequest): Outcome {
  const contentType = answer.headers.find(([name]) => name === "content-type")?.[1] ?? "";
  const error = httpMethod === "HEAD" ? undefined : errorIn(answer, contentType);
  if (!error) return { status: answer.status };
  return { status: answer.status, code: error.code, reason: reasonOf(error) };
}

function errorIn(answer: HttpAnswer, contentType: string): ConnectError | undefined {
  if (contentType.startsWith("application/grpc")) {
    const { trailers } = takeFramesApart(answer);
    const lines = [trailers, answer.headers].find((some) => some.some(([name]) => name === "grpc-status"));
    return lines ? findTrailerError(headersOf(lines)) : new ConnectError("no gRPC status", Code.Unknown);
  }
  if (contentType.startsWith("application/connect+")) return endOfStream(answer.body);
  if (answer.status === 200 || contentType !== "application/json") return undefined;
  const isCompressed = answer.headers.some(([name, value]) => name === "content-encoding" && value === "gzip");
  return parseError(isCompressed ? gunzipSync(answer.body) : answer.body);
}

function headersOf(lines: readonly HeaderLine[]): Headers {
  return new Headers(lines.map(([name, value]) => [name, value]));
}

function parseError(body: Buffer): ConnectError {
  const unreadable = new ConnectError("an error that cannot be read", Code.Unknown);
  try {
    return errorFromJsonBytes(body, undefined, unreadable);
  } catch {
    return unreadable;
  }
}

/** The error in the last frame of a Connect stream, which is always there. */
function endOfStream(body: Buffer): ConnectError | undefined {
  for (let at = 0; at + FRAME_HEADER_BYTES <= body.length; ) {
    const end = at + FRAME_HEADER_BYTES + body.readUInt32BE(at + 1);
    if ((body[at]! & END_OF_STREAM) !== 0) {
      const bytes = body.subarray(at + FRAME_HEADER_BYTES, end);
      const text = (body[at]! & COMPRESSED) === 0 ? bytes : gunzipSync(bytes);
      const { error } = JSON.parse(text.toString("utf8")) as { error?: { code: string } };
      return error && parseError(Buffer.from(JSON.stringify(error)));
    }
    at = end;
  }
  return new ConnectError("the stream has no end", Code.Unknown);
}
