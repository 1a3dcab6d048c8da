/** Connect's own adapter for Node on an ordinary HTTP/2 server, with our chain as interceptors. */
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import {
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createValidateInterceptor } from "@connectrpc/validate";
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code } from "../../errors.ts";
import { type Chain, type ChainCall, MAXIMUM_DEADLINE_MS } from "./chain.ts";
import { type BenchServer, greeting, PROCEDURE } from "./task.ts";

const MESSAGE_BYTES = 64 * 1024;

const callKey = createContextKey<ChainCall | undefined>(undefined);

export async function startConnectAdapter(chain: Chain): Promise<BenchServer> {
  const adapter = connectNodeAdapter({
    routes: (router: ConnectRouter) => {
      router.service(GreeterService, { sayHello: ({ name }) => ({ message: greeting(name) }) });
    },
    contextValues: () => createContextValues().set(callKey, chain.begin(PROCEDURE)),
    interceptors: [account(chain), authenticate(chain), createValidateInterceptor()],
    readMaxBytes: MESSAGE_BYTES,
    maxTimeoutMs: MAXIMUM_DEADLINE_MS,
  });
  const server = http2.createServer(adapter);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { port: (server.address() as AddressInfo).port, metrics: chain.metrics };
}

function account(chain: Chain): Interceptor {
  return (next) => async (request) => {
    const call = request.contextValues.get(callKey)!;
    try {
      const response = await next(request);
      response.header.set("x-request-id", call.requestId);
      chain.end(call);
      return response;
    } catch (error) {
      chain.end(call, ConnectError.from(error).code);
      throw error;
    }
  };
}

function authenticate(chain: Chain): Interceptor {
  return (next) => async (request) => {
    const call = request.contextValues.get(callKey)!;
    const traceparent = request.header.get("traceparent") ?? undefined;
    const mayCall = await chain.admit(call, { authorization: [request.header.get("authorization")], traceparent });
    if (!mayCall) {
      throw new ConnectError("unauthenticated", Code.Unauthenticated);
    }
    return next(request);
  };
}
