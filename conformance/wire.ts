/**
 * How the suite's runner talks to the programs under test: messages over stdin and stdout, each after its length in four
 * bytes; and the suite's own forms of headers and errors, made of Connect's and back.
 */
import type { Readable } from "node:stream";
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema, anyPack } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError } from "@connectrpc/connect";
import type { Code as SuiteCode } from "../.concierge/conformance/connectrpc/conformance/v1/config_pb.ts";
import {
  ErrorSchema,
  type Header,
  HeaderSchema,
  type Error as SuiteError,
} from "../.concierge/conformance/connectrpc/conformance/v1/service_pb.ts";

const LENGTH_BYTES = 4;

/** How the server's last line on stderr begins, before the number of calls that took the short way. */
export const FAST_PATH_CALLS = "calls on the fast path: ";

/** The messages that the runner sends, until it closes stdin. */
export async function* readMessages<Desc extends DescMessage>(
  source: Readable,
  desc: Desc,
): AsyncIterable<MessageShape<Desc>> {
  let bytes = Buffer.alloc(0);
  for await (const chunk of source) {
    bytes = Buffer.concat([bytes, chunk as Buffer]);
    while (bytes.length >= LENGTH_BYTES && bytes.length >= LENGTH_BYTES + bytes.readUInt32BE()) {
      const end = LENGTH_BYTES + bytes.readUInt32BE();
      yield fromBinary(desc, bytes.subarray(LENGTH_BYTES, end));
      bytes = bytes.subarray(end);
    }
  }
  if (bytes.length > 0) throw new Error("the runner broke off in the middle of a message");
}

/** A message as the runner reads it. */
export function framed<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): Buffer {
  const body = toBinary(desc, message);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

/** Headers or trailers as the suite writes them down. */
export function headersToSuite(headers: Headers): Header[] {
  return Array.from(headers, ([name, value]) => create(HeaderSchema, { name, value: [value] }));
}

export function appendHeaders(target: Headers, headers: Header[] = []): void {
  for (const { name, value } of headers) {
    for (const one of value) target.append(name, one);
  }
}

/** The error that a test case asks the server to throw. */
export function errorFromSuite({ code, message, details }: SuiteError): ConnectError {
  const error = new ConnectError(message ?? "", code as number as Code);
  error.details = details.map(({ typeUrl, value }) => ({ type: typeUrl.split("/").at(-1)!, value }));
  return error;
}

/** The error that a client saw. */
export function errorToSuite(error: ConnectError): SuiteError {
  const details = error.details.map(
    (detail): Any =>
      "desc" in detail
        ? anyPack(detail.desc, create(detail.desc, detail.value))
        : create(AnySchema, { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value }),
  );
  return create(ErrorSchema, { code: error.code as number as SuiteCode, message: error.rawMessage, details });
}
