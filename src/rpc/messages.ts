/**
 * What a message must be before a handler sees it: text that can be stored as it was sent, and what the contract's rules ask
 * for. The same for the message of a unary call and for each message of a stream.
 */
import { create, type DescMessage, type DescService, type Message } from "@bufbuild/protobuf";
import { createValidator, violationsToProto } from "@bufbuild/protovalidate";
import { ConnectError } from "@connectrpc/connect";
import { addDetail, Code, fail } from "../errors.ts";
import { namePublic } from "./errors.ts";
import { refuseUnstorableText } from "./text.ts";

const validator = createValidator();

/**
 * Compiles the rules of all requests of these services. Without it the first request of a kind does that while it, and all others of
 * the process, wait: for a tenth of a second where nothing else runs, and longer where a process has just been started. Throws
 * where a rule cannot be compiled.
 */
export function prepareChecks(services: readonly DescService[]): void {
  for (const { methods } of services) {
    for (const { input } of methods) {
      const result = validator.validate(input, create(input));
      // A rule that cannot be compiled or run is the contract's fault.
      if (result.kind === "error") throw result.error;
    }
  }
}

/** Throws INVALID_ARGUMENT / INVALID_REQUEST; broken rules are in the error as `buf.validate.Violations`. */
export function checkMessage(schema: DescMessage, message: Message): void {
  refuseUnstorableText(schema, message);
  const result = validator.validate(schema, message);
  if (result.kind === "valid") return;
  if (result.kind === "error") throw result.error;
  const error = fail(Code.InvalidArgument, "INVALID_REQUEST", result.error.message);
  const [value, desc] = violationsToProto(result.violations);
  addDetail(error, desc, value);
  throw error;
}

/** Checks each message of a stream as it arrives; what cannot be read at all is named as such. */
export async function* checkMessages(schema: DescMessage, messages: AsyncIterable<Message>): AsyncIterable<Message> {
  const arrivals = messages[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await arrivals.next().catch((thrown: unknown) => {
        throw thrown instanceof ConnectError ? namePublic(thrown) : thrown;
      });
      if (next.done) return;
      checkMessage(schema, next.value);
      yield next.value;
    }
  } finally {
    await arrivals.return?.();
  }
}
