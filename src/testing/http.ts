/**
 * HTTP requests for tests, as raw as an attacker's: header lines and paths are sent as they are given, HTTP/1.1 is written
 * and read by hand, and each request has a connection of its own, which is closed when it is over.
 */
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";

export type HttpVersion = "1.1" | "2";

/** A header line: name and value. Repeated names are sent apart, in this order. */
export type HeaderLine = readonly [name: string, value: string];

/** What came back, before anybody made sense of it. */
export interface HttpAnswer {
  /** HTTP status. */
  status: number;
  /** As received, names in lower case; trailers are apart. */
  headers: HeaderLine[];
  trailers: HeaderLine[];
  body: Buffer;
}

const TIMEOUT_MS = 10_000;

export interface HttpRequest {
  httpMethod: string;
  path: string;
  headers: readonly HeaderLine[];
  body?: Uint8Array;
}

/** One HTTP request over a connection of its own. */
export async function sendHttp(version: HttpVersion, baseUrl: string, request: HttpRequest): Promise<HttpAnswer> {
  if (version === "2") return sendHttp2(baseUrl, request);
  const { host } = new URL(baseUrl);
  const body = request.body ?? Buffer.alloc(0);
  const own: HeaderLine[] = [
    ["host", host],
    ["connection", "close"],
    ["content-length", String(body.byteLength)],
  ];
  const lines = withOwn(own, request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = Buffer.from(`${request.httpMethod} ${request.path} HTTP/1.1\r\n${lines.join("")}\r\n`, "utf8");
  return parseHttp1(await exchangeBytes(baseUrl, Buffer.concat([head, body])));
}

/** Sends bytes over a TCP connection and answers with all that came back until the server closed it. */
export async function exchangeBytes(baseUrl: string, bytes: Uint8Array): Promise<Buffer> {
  const { hostname, port } = new URL(baseUrl);
  const socket = net.connect({ host: hostname, port: Number(port), noDelay: true });
  const timer = setTimeout(() => socket.destroy(new Error("the server did not close in time")), TIMEOUT_MS);
  const chunks: Buffer[] = [];
  socket.on("data", (chunk) => chunks.push(chunk));
  const closed = new Promise<void>((resolve, reject) => {
    socket.once("close", () => resolve());
    // A server that refuses before it has read everything resets the connection after its answer.
    socket.once("error", (error) => (chunks.length > 0 ? resolve() : reject(error)));
  });
  socket.write(bytes);
  try {
    await closed;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
  return Buffer.concat(chunks);
}

async function sendHttp2(baseUrl: string, request: HttpRequest): Promise<HttpAnswer> {
  const session = openHttp2(baseUrl);
  const failed = once(session, "error").then(([error]) => Promise.reject(error));
  failed.catch(() => {});
  try {
    return await Promise.race([sendOverHttp2(session, new URL(baseUrl).host, request), failed]);
  } finally {
    session.destroy();
  }
}

/** An HTTP/2 connection that sends header lines as they are given, repeated and oversized ones, too. */
export function openHttp2(baseUrl: string): http2.ClientHttp2Session {
  // The first option lets one name be sent twice; the types do not know it yet. The last, in megabytes, is for a large body that is
  // answered while it is being sent.
  const options = {
    strictSingleValueFields: false,
    maxSendHeaderBlockLength: 4 * 1024 * 1024,
    maxSessionMemory: 256,
  };
  // Whoever needs to know of an error listens, too; nobody has to.
  return http2.connect(baseUrl, options as http2.ClientSessionOptions).on("error", () => {});
}

/** One request over such a connection. Rejects when the stream ends without an answer. */
export async function sendOverHttp2(
  session: http2.ClientHttp2Session,
  host: string,
  request: HttpRequest,
): Promise<HttpAnswer> {
  const pseudo = [":method", request.httpMethod, ":path", request.path, ":scheme", "http", ":authority", host];
  const lines = request.headers.flatMap(([name, value]) => [name.toLowerCase(), value]);
  const stream = session.request([...pseudo, ...lines], { endStream: request.body === undefined });
  stream.setTimeout(TIMEOUT_MS, () => stream.destroy(new Error("the server did not answer in time")));
  return answerOf(stream, request.body);
}

async function answerOf(stream: http2.ClientHttp2Stream, body: Uint8Array | undefined): Promise<HttpAnswer> {
  const answer: HttpAnswer = { status: 0, headers: [], trailers: [], body: Buffer.alloc(0) };
  const chunks: Buffer[] = [];
  stream.on("response", (headers, _, rawHeaders?: string[]) => {
    answer.status = Number(headers[":status"]);
    answer.headers = pairs(rawHeaders ?? []).filter(([name]) => !name.startsWith(":"));
  });
  stream.on("trailers", (_, __, rawTrailers?: string[]) => {
    answer.trailers = pairs(rawTrailers ?? []);
  });
  stream.on("data", (chunk) => chunks.push(chunk));
  if (body) stream.end(body);
  await new Promise<void>((resolve, reject) => {
    stream.once("error", reject);
    stream.once("close", resolve);
  });
  if (answer.status === 0) throw new Error(`the stream was closed without an answer (HTTP/2 code ${stream.rstCode})`);
  return { ...answer, body: Buffer.concat(chunks) };
}

/** Reads the first response of a connection that was closed behind it; "100 Continue" only announces it. */
function parseHttp1(bytes: Buffer): HttpAnswer {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) throw new Error("the connection was closed without an answer");
  const [statusLine, ...lines] = bytes.subarray(0, headEnd).toString("latin1").split("\r\n");
  const headers = lines.map(parseLine);
  const rest = bytes.subarray(headEnd + 4);
  const status = Number(statusLine!.split(" ")[1]);
  if (status === 100) return parseHttp1(rest);
  const isChunked = headers.some(([name, value]) => name === "transfer-encoding" && value === "chunked");
  return isChunked ? { status, headers, ...parseChunks(rest) } : { status, headers, trailers: [], body: rest };
}

function parseChunks(bytes: Buffer): Pick<HttpAnswer, "body" | "trailers"> {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) throw new Error("the connection was closed in the middle of the answer");
    const size = Number.parseInt(bytes.subarray(at, lineEnd).toString("latin1"), 16);
    at = lineEnd + 2;
    if (size === 0) {
      const lines = bytes.subarray(at).toString("latin1").split("\r\n");
      return { body: Buffer.concat(chunks), trailers: lines.filter((line) => line !== "").map(parseLine) };
    }
    chunks.push(bytes.subarray(at, at + size));
    at += size + 2;
  }
}

/** "Name: value" taken apart. */
export function parseLine(line: string): HeaderLine {
  const colon = line.indexOf(":");
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

function pairs(raw: string[]): HeaderLine[] {
  return Array.from({ length: raw.length / 2 }, (_, index) => [raw[index * 2]!, raw[index * 2 + 1]!] as const);
}

/** The lines that are sent anyway, except those whose name (in any case) is among `sent`; then these. */
export function withOwn(own: readonly HeaderLine[], sent: readonly HeaderLine[]): HeaderLine[] {
  const names = new Set(sent.map(([name]) => name.toLowerCase()));
  return [...own.filter(([name]) => !names.has(name)), ...sent];
}
