/**
 * Makes a call of another service part of the trace that it is made in: says so in its headers, and ends its part when the
 * answer is over. Around the transport and not an interceptor, because only out here is it settled how a call has ended.
 */
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { type CallTrace, traceKey } from "../telemetry/traces.ts";

/** Calls whose context values have no trace go as they are. */
export function traceCalls(transport: Transport): Transport {
  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const trace = contextValues?.get(traceKey)?.client(method);
      if (!trace) return transport.unary(method, signal, timeoutMs, header, input, contextValues);
      try {
        const headers = headersWith(trace, header);
        const answer = await transport.unary(method, signal, timeoutMs, headers, input, contextValues);
        end(trace, undefined);
        return answer;
      } catch (error) {
        end(trace, ConnectError.from(error).code);
        throw error;
      }
    },
    async stream(method, signal, timeoutMs, header, input, contextValues) {
      const trace = contextValues?.get(traceKey)?.client(method);
      if (!trace) return transport.stream(method, signal, timeoutMs, header, input, contextValues);
      // Whoever leaves the loop over the answers is not noticed here; whoever ends the call, is.
      const leave = () => end(trace, ConnectError.from(signal!.reason).code);
      signal?.addEventListener("abort", leave, { once: true });
      const stay = () => signal?.removeEventListener("abort", leave);
      try {
        const headers = headersWith(trace, header);
        const answer = await transport.stream(method, signal, timeoutMs, headers, input, contextValues);
        return { ...answer, message: endingTrace(answer.message, trace, stay) };
      } catch (error) {
        stay();
        end(trace, ConnectError.from(error).code);
        throw error;
      }
    },
  };
}

/** The same messages; the trace ends with them. */
async function* endingTrace<Message>(messages: AsyncIterable<Message>, trace: CallTrace, stay: () => void) {
  try {
    yield* messages;
    end(trace, undefined);
  } catch (error) {
    end(trace, ConnectError.from(error).code);
    throw error;
  } finally {
    stay();
    end(trace, Code.Canceled);
  }
}

/** The first end counts. */
function end(trace: CallTrace, code: Code | undefined): void {
  trace.end(code, { protocol: "grpc" });
}

function headersWith({ traceparent, tracestate }: CallTrace, header: Parameters<Transport["unary"]>[3]): Headers {
  const headers = new Headers(header);
  headers.set("traceparent", traceparent);
  if (tracestate !== undefined) headers.set("tracestate", tracestate);
  return headers;
}
