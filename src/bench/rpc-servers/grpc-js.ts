/**
 * `@grpc/grpc-js` as its users set it up (proto-loader's codecs, the default options), bare or with our chain. The chain is two
 * interceptors, not one for each step: fewer layers are cheaper there.
 */
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { systemClock } from "../../clock.ts";
import { type Chain, DEFAULT_DEADLINE_MS, isGoodName, MAXIMUM_DEADLINE_MS } from "./chain.ts";
import { type BenchServer, greeting } from "./task.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const CONTRACT = "concierge/greeter/v1/greeter_service.proto";
const { status: Status } = grpc;

type SayHello = grpc.handleUnaryCall<{ name: string }, { message: string }>;

const sayHello: SayHello = ({ request }, callback) => callback(null, { message: greeting(request.name) });

export async function startGrpcJs(chain: Chain | undefined): Promise<BenchServer> {
  const includeDirs = [`${ROOT}proto`, `${ROOT}.proto-deps`];
  const definition = loadSync(CONTRACT, { includeDirs, defaults: true });
  const service = definition["concierge.greeter.v1.GreeterService"] as grpc.ServiceDefinition;
  // The first is next to the wire.
  const server = new grpc.Server({ interceptors: chain ? [admit(chain), validate] : [] });
  server.addService(service, { SayHello: sayHello });
  const credentials = grpc.ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return { port, metrics: chain?.metrics };
}

/** Request id, deadline, authentication, access rule; at the end metrics and the log line. */
function admit(chain: Chain): grpc.ServerInterceptor {
  return ({ path }, next) => {
    const call = chain.begin(path);
    const cancelDeadline = limitTime(next, () => admitted.sendStatus(DEADLINE_EXCEEDED));
    let hasEnded = false;
    const end = (code: grpc.status) => {
      if (hasEnded) return;
      hasEnded = true;
      cancelDeadline?.();
      chain.end(call, code === Status.OK ? undefined : (code as number));
    };
    const admitted = new grpc.ServerInterceptingCall(next, {
      start: (start) =>
        start({
          onReceiveMetadata(metadata, pass) {
            const traceparent = metadata.get("traceparent")[0]?.toString();
            chain.admit(call, { authorization: metadata.get("authorization"), traceparent }).then(
              (mayCall) => (mayCall ? pass(metadata) : admitted.sendStatus(UNAUTHENTICATED)),
              () => admitted.sendStatus(INTERNAL),
            );
          },
          onCancel: () => end(Status.CANCELLED),
        }),
      sendMetadata(metadata, send) {
        metadata.set("x-request-id", call.requestId);
        send(metadata);
      },
      sendStatus(status, send) {
        end(status.code ?? Status.UNKNOWN);
        send(status);
      },
    });
    return admitted;
  };
}

const validate: grpc.ServerInterceptor = (_, next) => {
  const validated = new grpc.ServerInterceptingCall(next, {
    start: (start) =>
      start({
        onReceiveMessage({ name }: { name: string }, pass) {
          if (isGoodName(name)) pass({ name });
          else validated.sendStatus(INVALID_ARGUMENT);
        },
      }),
  });
  return validated;
};

/** grpc-js itself ends a call at the deadline that the client names; here are the default and the longest one. */
function limitTime(call: grpc.ServerInterceptingCallInterface, onTooLate: () => void): (() => void) | undefined {
  const deadlineMs = Number(call.getDeadline());
  if (deadlineMs - systemClock.now() <= MAXIMUM_DEADLINE_MS) return undefined;
  const timer = setTimeout(
    onTooLate,
    deadlineMs === Number.POSITIVE_INFINITY ? DEFAULT_DEADLINE_MS : MAXIMUM_DEADLINE_MS,
  );
  return () => clearTimeout(timer);
}

const UNAUTHENTICATED = { code: Status.UNAUTHENTICATED, details: "unauthenticated" };
const INVALID_ARGUMENT = { code: Status.INVALID_ARGUMENT, details: "name: must have 1 to 100 characters" };
const DEADLINE_EXCEEDED = { code: Status.DEADLINE_EXCEEDED, details: "the deadline has passed" };
const INTERNAL = { code: Status.INTERNAL, details: "internal error" };
