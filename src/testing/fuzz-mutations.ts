/**
 * Damage, done to valid requests: bytes of the body, header lines, path and HTTP method, and the bytes of a whole connection.
 * What was changed keeps the shape of what was there, so that it gets as deep into the server as it can.
 */
import type { FuzzRequest } from "./fuzz-corpus.ts";
import type { HeaderLine } from "./http.ts";
import { clientOpening, FrameFlag, FrameType, http2Frame, postBlock, settingsAck } from "./http2-frames.ts";
import type { Random } from "./seeded.ts";

const BYTES = [0, 1, 2, 0x7f, 0x80, 0xff, 0x0a, 0x0d, 0x20, 0x22, 0x25, 0x2c, 0x5b, 0x7b, 0x7d];
const LENGTHS = [0, 1, 4, 5, 0xff, 0xffff, 65_536, 65_537, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const HTTP_METHODS = ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "post", "X", "POST"];
const CONTENT_TYPES = [
  "application/json",
  "application/proto",
  "application/grpc",
  "application/grpc+proto",
  "application/grpc+json",
  "application/grpc-web",
  "application/grpc-web+json",
  "application/grpc-web-text",
  "application/connect+proto",
  "application/connect+json",
  "application/grpc+thrift",
  "application/json; charset=utf-8",
  "application/json; charset=utf-16",
  "text/plain",
  "multipart/form-data",
  "APPLICATION/GRPC",
];
const VALUES = [
  "",
  " ",
  "0",
  "-1",
  "1",
  "99999999S",
  "1n",
  "1x",
  "18446744073709551616",
  "1e9",
  "\u00e9",
  "a,b",
  "identity",
];
const NAMES: HeaderLine[] = [
  ["content-encoding", "br"],
  ["content-encoding", "zstd"],
  ["content-encoding", "gzip, gzip"],
  ["grpc-encoding", "gzip"],
  ["grpc-encoding", "snappy"],
  ["grpc-accept-encoding", "zstd,,;q"],
  ["grpc-timeout", "1n"],
  ["connect-timeout-ms", "1"],
  ["connect-protocol-version", "2"],
  ["x-user-agent", "grpc-web"],
  ["service-token", "a.b.c"],
  ["x-request-id", "../../etc"],
  ["traceparent", "00-ffffffffffffffffffffffffffffffff-0000000000000001-01"],
  ["x-forwarded-for", "1.2.3.4, ::1, nobody"],
  ["origin", "null"],
  ["some-bin", "not base64!"],
  ["expect", "100-continue"],
  ["content-length", "3"],
  ["cookie", "a=b; c"],
  ["host", "other.example"],
  ["if-none-match", "*"],
];

/** A request with one to three things wrong, or, now and then, with nothing wrong that a reader would see. */
export function mutate(original: FuzzRequest, corpus: readonly FuzzRequest[], random: Random): FuzzRequest {
  let request = original;
  for (let rounds = 1 + random.below(3); rounds > 0; rounds--) {
    const what = random.below(10);
    if (what < 5) request = { ...request, body: mutateBytes(request.body, random.pick(corpus).body, random) };
    else if (what < 8) request = { ...request, headers: mutateHeaders(request.headers, random) };
    else if (what === 8) request = { ...request, path: mutatePath(request.path, corpus, random) };
    else request = { ...request, httpMethod: random.pick(HTTP_METHODS) };
  }
  return request;
}

/** One piece of damage; `other` gives bytes that mean something elsewhere. */
export function mutateBytes(bytes: Buffer, other: Buffer, random: Random): Buffer {
  const at = random.below(bytes.length + 1);
  const count = 1 + random.below(8);
  const tail = bytes.subarray(at);
  const before = bytes.subarray(0, at);
  switch (random.below(9)) {
    case 0: // a bit
      return Buffer.concat([before, Buffer.of((tail[0] ?? 0) ^ (1 << random.below(8))), tail.subarray(1)]);
    case 1: // a byte
      return Buffer.concat([before, Buffer.of(random.pick(BYTES)), tail.subarray(1)]);
    case 2: // less
      return Buffer.concat([before, tail.subarray(count)]);
    case 3: // nothing more
      return before;
    case 4: // more
      return Buffer.concat([before, Buffer.from(Array.from({ length: count }, () => random.below(256))), tail]);
    case 5: // again
      return Buffer.concat([before, tail.subarray(0, count * 8), tail]);
    case 6: // of another request
      return Buffer.concat([before, other.subarray(random.below(other.length + 1))]);
    case 7: // a length
      return withLength(bytes, random.oneIn(2) ? 1 : at, random.pick(LENGTHS));
    default: // twice the request
      return Buffer.concat([bytes, other]);
  }
}

function withLength(bytes: Buffer, at: number, length: number): Buffer {
  const changed = Buffer.concat([bytes, Buffer.alloc(Math.max(0, at + 4 - bytes.length))]);
  changed.writeUInt32BE(length, at);
  return changed;
}

function mutateHeaders(headers: readonly HeaderLine[], random: Random): HeaderLine[] {
  const at = random.below(Math.max(1, headers.length));
  const [name, value] = headers[at] ?? random.pick(NAMES);
  const replaced = (line: HeaderLine) => headers.toSpliced(at, 1, line);
  switch (random.below(8)) {
    case 0:
      return headers.toSpliced(at, 1);
    case 1:
      return [...headers, [name, value]];
    case 2:
      return replaced([name, random.pick(VALUES)]);
    case 3:
      return replaced([name, value.slice(0, random.below(value.length + 1))]);
    case 4:
      return replaced([name, mutateText(value, random)]);
    case 5:
      return [...headers.filter(([other]) => other !== "content-type"), ["content-type", random.pick(CONTENT_TYPES)]];
    case 6:
      return [...headers, [`x-${random.below(100)}`, "v".repeat(random.pick([1, 100, 4_000, 9_000, 17_000]))]];
    default:
      return [...headers, random.pick(NAMES)];
  }
}

function mutatePath(path: string, corpus: readonly FuzzRequest[], random: Random): string {
  switch (random.below(6)) {
    case 0:
      return random.pick(corpus).path;
    case 1:
      return `${path}${random.pick(["/", "?", "?a=b", "%00", "%2F", "#f", "&message=%ff", "&encoding=proto", "?connect=v1"])}`;
    case 2:
      return path.replace(/[A-Z]/, (letter) => letter.toLowerCase());
    case 3:
      return random.pick([
        "/",
        "*",
        "//",
        "/healthz",
        "/readyz",
        "/metrics",
        "/a/b",
        `/${"a".repeat(5_000)}`,
        "http://x/y",
      ]);
    case 4:
      return path.slice(0, 1 + random.below(path.length));
    default:
      return `/${mutateText(path.slice(1), random)}`;
  }
}

/** Another visible character somewhere: what neither end of a line nor of a request hides in. */
function mutateText(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  return text.slice(0, at) + String.fromCharCode(0x21 + random.below(0x5e)) + text.slice(at + random.below(3));
}

/** All bytes that a client sends on one connection for two requests, damaged in one to four places. */
export function mutateConnection(first: FuzzRequest, second: FuzzRequest, host: string, random: Random): Buffer {
  const write = first.http === "2" ? writeHttp2 : writeHttp1;
  let bytes = write([first, second], host);
  for (let rounds = 1 + random.below(4); rounds > 0; rounds--) bytes = mutateBytes(bytes, second.body, random);
  return bytes;
}

function writeHttp1(requests: FuzzRequest[], host: string): Buffer {
  const parts = requests.flatMap(({ httpMethod, path, headers, body }) => {
    const lines = [["host", host], ["content-length", String(body.length)], ...headers];
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    return [Buffer.from(`${httpMethod} ${path} HTTP/1.1\r\n${head}\r\n`, "latin1"), body];
  });
  return Buffer.concat(parts);
}

function writeHttp2(requests: FuzzRequest[], host: string): Buffer {
  const frames = requests.flatMap(({ path, headers, body }, index) => {
    const streamId = 2 * index + 1;
    return [
      http2Frame(FrameType.headers, FrameFlag.endHeaders, streamId, postBlock(host, path, headers)),
      http2Frame(FrameType.data, FrameFlag.endStream, streamId, body),
    ];
  });
  return Buffer.concat([clientOpening(), settingsAck, ...frames]);
}
