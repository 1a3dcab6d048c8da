/**
 * Valid requests of every method in every shape that the server answers: protocols, encodings, HTTP versions, compression,
 * deadlines, GET. Messages are filled from the contract, so a new method or field is in it without a word here.
 */

import { gzipSync } from "node:zlib";
import {
  create,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  type Message,
  ScalarType,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { MethodOptions_IdempotencyLevel, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { HeaderLine, HttpRequest, HttpVersion } from "./http.ts";
import { allWires, frameMessage, httpRequestOf, type Wire, wireName } from "./wire.ts";

/** One request to send, and over what. */
export interface FuzzRequest extends HttpRequest {
  /** For example "/concierge.auth.v1.AuthService/Login connect json h2". */
  what: string;
  http: HttpVersion;
  body: Buffer;
}

const UUID = "01a2004c-fce2-767b-8621-7bf85eb0036e";
/** What fields of these names take, where it is no text of any kind. */
const TEXTS: Record<string, string> = {
  email: "ann@example.com",
  new_email: "ann@example.org",
  locale: "en-GB",
  idempotency_key: UUID,
  links: "https://example.com/",
  // Of roles and organizations, by which they are named elsewhere.
  name: "porter",
  role: "porter",
  slug: "porter",
  topic: "porters",
  permission: "products:read",
  permissions: "products:read",
  // Of a field mask, whose JSON holds nothing but names.
  paths: "field",
};
const DEADLINE: Record<Wire["protocol"], HeaderLine> = {
  connect: ["connect-timeout-ms", "1000"],
  grpc: ["grpc-timeout", "1S"],
  "grpc-web": ["grpc-timeout", "1000m"],
};

/** All of them, with this header on each. */
export function recordCorpus(services: readonly DescService[], authorization: HeaderLine): FuzzRequest[] {
  return services.flatMap(({ methods }) =>
    methods.flatMap((method) =>
      allWires
        .filter((wire) => takes(method, wire))
        .flatMap((wire) =>
          method.methodKind === "unary" ? unary(wire, method as DescMethodUnary) : [stream(wire, method)],
        )
        .map((request) => ({ ...request, headers: [...request.headers, authorization] })),
    ),
  );
}

/** Both sides of a stream at once need HTTP/2. */
function takes({ methodKind }: DescMethod, { http }: Wire): boolean {
  return methodKind !== "bidi_streaming" || http === "2";
}

/** Plain, compressed, with a deadline, and as GET where that is allowed. */
function unary(wire: Wire, method: DescMethodUnary): FuzzRequest[] {
  const message = encode(wire, method.input);
  const compressed =
    wire.protocol === "connect"
      ? { body: gzipSync(message), headers: [["content-encoding", "gzip"] as const] }
      : { body: frameMessage(gzipSync(message), 1), headers: [["grpc-encoding", "gzip"] as const] };
  const answers: HeaderLine[] = [[wire.protocol === "connect" ? "accept-encoding" : "grpc-accept-encoding", "gzip"]];
  const hasGet = wire.protocol === "connect" && method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  return [
    requestOf(wire, method, "", { message }),
    requestOf(wire, method, " gzip", compressed),
    requestOf(wire, method, " deadline", { message, headers: [DEADLINE[wire.protocol], ...answers] }),
    ...(hasGet ? [requestOf(wire, method, " GET", { message, httpMethod: "GET" })] : []),
  ];
}

/** Two messages where several may be sent. In Connect a stream is framed, too, and says so in its content type. */
function stream(wire: Wire, method: DescMethod): FuzzRequest {
  const message = frameMessage(encode(wire, method.input));
  const body = method.methodKind === "server_streaming" ? message : Buffer.concat([message, message]);
  const headers: HeaderLine[] =
    wire.protocol === "connect" ? [["content-type", `application/connect+${wire.encoding}`]] : [];
  return requestOf(wire, method, " stream", { body, headers });
}

type Parts = Omit<Parameters<typeof httpRequestOf>[1], "method">;

function requestOf(wire: Wire, method: DescMethod, suffix: string, parts: Parts): FuzzRequest {
  const request = httpRequestOf(wire, { ...parts, method: method as DescMethodUnary });
  const what = `/${method.parent.typeName}/${method.name} ${wireName(wire)}${suffix}`;
  return { ...request, what, http: wire.http, body: Buffer.from(request.body ?? []) };
}

function encode({ encoding }: Wire, desc: DescMessage): Buffer {
  const message = fill(desc).message as Message;
  return Buffer.from(encoding === "proto" ? toBinary(desc, message) : toJsonString(desc, message));
}

/** A message with every field set, to something that its rules are likely to take. */
function fill(desc: DescMessage): ReflectMessage {
  // It may hold itself, at any depth.
  if (desc.typeName === ValueSchema.typeName) return reflect(ValueSchema, textValue());
  const message = reflect(desc, create(desc));
  for (const field of desc.fields) {
    switch (field.fieldKind) {
      case "scalar":
        message.set(field, scalar(field.scalar, field.name));
        break;
      case "enum":
        message.set(field, field.enum.values.at(-1)!.number);
        break;
      case "message":
        message.set(field, fill(field.message));
        break;
      case "list":
        message.get(field).add(element(field));
        break;
      case "map":
        message.get(field).set("key", element(field));
    }
  }
  return message;
}

function element(field: DescField & { fieldKind: "list" | "map" }) {
  if (field.message) return fill(field.message);
  return field.enum ? field.enum.values.at(-1)!.number : scalar(field.scalar, field.name);
}

function scalar(type: ScalarType, name: string) {
  switch (type) {
    case ScalarType.STRING:
      return text(name);
    case ScalarType.BYTES:
      return Buffer.from("bytes");
    case ScalarType.BOOL:
      return true;
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1n;
    default:
      return 1;
  }
}

function textValue() {
  return create(ValueSchema, { kind: { case: "stringValue", value: "text" } });
}

function text(name: string): string {
  return TEXTS[name] ?? (/_ids?$/.test(name) ? UUID : "Ann Żółć 👋");
}
