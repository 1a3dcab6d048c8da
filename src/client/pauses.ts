/** Waiting between a refused call and the next try. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";

/** What the peer asked to wait. Errors that were made on this side carry advice for callers, which is not meant for us. */
export function toldDelayMs(error: unknown): number | undefined {
  const answered = ConnectError.from(error);
  const [info] = answered.isWireError ? answered.findDetails(RetryInfoSchema) : [];
  return info?.retryDelay && durationMs(info.retryDelay);
}

/** Waits. Rejects when the caller leaves, as the call would have. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(ConnectError.from(signal!.reason, Code.Canceled));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, ms);
    signal?.addEventListener("abort", leave, { once: true });
  });
}
