/**
 * The border for errors: whatever is thrown inside becomes one ConnectError with a public message and a stable reason.
 * Errors that Connect itself raises (a message it cannot parse, a limit, a deadline) get theirs here too; Connect reports
 * an unreadable binary message as INTERNAL with the parser's words, but it is the client's mistake.
 */
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { ConnectError } from "@connectrpc/connect";
import { sqlStateOf, toConnectError, withoutData } from "../db/errors.ts";
import { Code, dependencyUnavailable, fail, isFitForClients, releaseToClients, withReason } from "../errors.ts";

/** What Connect itself throws where handlers throw, too: an end of the call, a message too few or too many. */
const CONNECTS_OWN = new Set([Code.DeadlineExceeded, Code.Canceled, Code.Unimplemented]);

/**
 * Turns what a handler threw into what the client may see. Faults keep their cause for the log. An answer of another
 * service that nobody translated says nothing about this call: it is a fault, of that service or of ours.
 */
export function publicError(thrown: unknown): ConnectError {
  if (!(thrown instanceof ConnectError)) {
    // What PostgreSQL says of a fault may quote values.
    return toConnectError(thrown) ?? internalError(sqlStateOf(thrown) ? withoutData(thrown) : thrown);
  }
  if (isFitForClients(thrown)) return thrown;
  const { code } = thrown;
  if (thrown.isWireError) {
    const silent = code === Code.Unavailable || code === Code.DeadlineExceeded;
    return silent ? dependencyUnavailable(thrown) : internalError(thrown);
  }
  if (thrown.findDetails(ViolationsSchema).length > 0) return releaseToClients(withReason(thrown, "INVALID_REQUEST"));
  return CONNECTS_OWN.has(code) ? namePublic(thrown) : internalError(thrown);
}

function internalError(cause: unknown): ConnectError {
  return fail(Code.Internal, "INTERNAL", "internal error", { cause });
}

/** How Connect begins what it says of a compressed message in a call that names no compression. */
const UNANNOUNCED_COMPRESSION = "received compressed envelope";

/** How connect-node begins what it says of a stream that the client reset: the client has gone, whichever code it gave. */
const RESET_BY_CLIENT = "http/2 stream closed with error code";

/** INTERNAL, because gRPC's specification wants it; the mistake is the client's all the same. */
export function unannouncedCompression(): ConnectError {
  return fail(Code.Internal, "MALFORMED_MESSAGE", "the message is compressed, and the call does not say how");
}

/** True for errors that are worth a stack in the log: ours to mend. */
export function isFault(code: Code): boolean {
  return code === Code.Internal || code === Code.Unknown || code === Code.DataLoss;
}

/**
 * Rewrites, in place, an error that Connect raised before or around the handler. In place, because Connect serialises the
 * very object that it aborts the call's signal with, and offers no other hook on that way.
 */
export function namePublic(error: ConnectError): ConnectError {
  if (isFitForClients(error)) return error;
  if (error.rawMessage.startsWith(UNANNOUNCED_COMPRESSION)) return rewrite(error, unannouncedCompression());
  return rewrite(error, publicFace(wasReset(error) ? Code.Canceled : error.code));
}

function wasReset({ rawMessage }: ConnectError): boolean {
  return rawMessage.startsWith(RESET_BY_CLIENT);
}

function rewrite(error: ConnectError, { code, rawMessage, message, details }: ConnectError): ConnectError {
  return releaseToClients(Object.assign(error, { code, rawMessage, message, details }));
}

function publicFace(code: Code): ConnectError {
  switch (code) {
    case Code.Internal:
    case Code.InvalidArgument:
      return malformed();
    case Code.ResourceExhausted:
      return tooLarge();
    case Code.DeadlineExceeded:
      return deadlineExceeded();
    case Code.Canceled:
    case Code.Aborted:
      return canceled();
    case Code.Unimplemented:
      return unimplemented();
    default:
      return internalError(undefined);
  }
}

export function malformed(): ConnectError {
  return fail(Code.InvalidArgument, "MALFORMED_MESSAGE", "the message cannot be read");
}

export function tooLarge(): ConnectError {
  return fail(Code.ResourceExhausted, "MESSAGE_TOO_LARGE", "the message is too large");
}

export function deadlineExceeded(): ConnectError {
  return fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed");
}

export function canceled(): ConnectError {
  return fail(Code.Canceled, "CANCELED", "the call was canceled");
}

export function unimplemented(): ConnectError {
  return fail(Code.Unimplemented, "UNIMPLEMENTED", "this is not implemented");
}
