/**
 * A collector of traces on loopback, as OTLP/HTTP has it: reads the protobuf of what is sent to it, by field numbers, and
 * keeps it. It can be told to fail or to be silent.
 */
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

export interface CollectedSpan {
  traceId: string;
  spanId: string;
  /** "" where there is none. */
  parentSpanId: string;
  traceState: string;
  name: string;
  /** 2: server, 3: client. */
  kind: number;
  /** Nanoseconds since 1970. */
  start: bigint;
  end: bigint;
  /** Those that are texts. */
  attributes: Record<string, string>;
  /** 2: an error. */
  status: number;
}

export interface TraceCollector extends AsyncDisposable {
  readonly url: string;
  readonly spans: CollectedSpan[];
  /** All that was received, as it was. */
  readonly bodies: Buffer[];
  /** How requests are answered: taken, refused, or not at all. */
  behaviour: "take" | "refuse" | "hang";
}

export async function startTraceCollector(): Promise<TraceCollector> {
  const server = http.createServer(async (request, response) => {
    const body = await bodyOf(request);
    collector.bodies.push(body);
    if (collector.behaviour === "hang") return;
    if (collector.behaviour === "take") collector.spans.push(...readRequest(body));
    response.writeHead(collector.behaviour === "take" ? 200 : 400).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const collector: TraceCollector = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`,
    spans: [],
    bodies: [],
    behaviour: "take",
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return collector;
}

async function bodyOf(request: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface Field {
  /** Of a field with a length. */
  bytes: Buffer;
  /** Of the others. */
  value: bigint;
}

function readRequest(body: Buffer): CollectedSpan[] {
  const resources = fieldsOf(body, 1);
  const scopes = resources.flatMap(({ bytes }) => fieldsOf(bytes, 2));
  return scopes.flatMap(({ bytes }) => fieldsOf(bytes, 2)).map(({ bytes }) => readSpan(bytes));
}

function readSpan(bytes: Buffer): CollectedSpan {
  const bytesOf = (number: number) => fieldsOf(bytes, number)[0]?.bytes ?? Buffer.alloc(0);
  const numberOf = (number: number) => fieldsOf(bytes, number)[0]?.value ?? 0n;
  return {
    traceId: bytesOf(1).toString("hex"),
    spanId: bytesOf(2).toString("hex"),
    traceState: bytesOf(3).toString(),
    parentSpanId: bytesOf(4).toString("hex"),
    name: bytesOf(5).toString(),
    kind: Number(numberOf(6)),
    start: numberOf(7),
    end: numberOf(8),
    attributes: Object.fromEntries(fieldsOf(bytes, 9).map((attribute) => readAttribute(attribute.bytes))),
    status: Number(fieldsOf(bytesOf(15), 3)[0]?.value ?? 0n),
  };
}

function readAttribute(bytes: Buffer): [key: string, text: string] {
  const value = fieldsOf(bytes, 2)[0]!.bytes;
  return [fieldsOf(bytes, 1)[0]!.bytes.toString(), fieldsOf(value, 1)[0]?.bytes.toString() ?? ""];
}

/** The fields of a message that have this number. */
function fieldsOf(message: Buffer, wanted: number): Field[] {
  const reader = new BinaryReader(message);
  const fields: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field: Field = { bytes: Buffer.alloc(0), value: 0n };
    if (wireType === WireType.LengthDelimited) field.bytes = Buffer.from(reader.bytes());
    else if (wireType === WireType.Bit64) field.value = BigInt(reader.fixed64());
    else if (wireType === WireType.Varint) field.value = BigInt(reader.uint64());
    else reader.skip(wireType, number);
    if (number === wanted) fields.push(field);
  }
  return fields;
}
