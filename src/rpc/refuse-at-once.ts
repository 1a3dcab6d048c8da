/**
 * The cheapest answer there is, for calls that find the listener full: nothing of them is looked at, and their answer is
 * made once for all. A process that refuses them like other calls is so busy with it that it answers nobody in time
 * (measured by `make prove/overload`). They are counted, but not logged.
 */
import type http2 from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { Metrics } from "../telemetry/metrics.ts";
import { endAfterAnswer } from "./early-answer.ts";
import { overloaded } from "./overload.ts";

/** Answers a unary call of the fast path as UNAVAILABLE / OVERLOADED. */
export type RefuseAtOnce = (stream: http2.ServerHttp2Stream, protocol: "grpc" | "connect", method: DescMethod) => void;

const error = overloaded();
const GRPC_HEADERS = {
  ":status": 200,
  "content-type": "application/grpc+proto",
  ...Object.fromEntries(setTrailerStatus(new Headers(), error)),
};
const CONNECT_BODY = errorToJsonBytes(error, undefined);
const CONNECT_HEADERS = {
  ":status": codeToHttpStatus(error.code),
  "content-type": "application/json",
  "content-length": CONNECT_BODY.length,
};

export function createRefuseAtOnce(metrics: Metrics): RefuseAtOnce {
  return (stream, protocol, method) => {
    metrics.callStarted();
    metrics.callEnded({ method, protocol, code: error.code, durationMs: 0 });
    metrics.refused("overloaded");
    if (protocol === "grpc") {
      stream.respond(GRPC_HEADERS, { endStream: true });
    } else {
      stream.respond(CONNECT_HEADERS);
      stream.end(CONNECT_BODY);
    }
    // Throws the body away. One that came with its headers is over before anybody looks, and its stream ends by itself.
    stream.resume();
    endAfterAnswer(stream);
  };
}
