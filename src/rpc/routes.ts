/**
 * The methods that a listener serves, by path: each behind its steps, with its rule and its limits. Connect's universal
 * handlers speak the three protocols; the implementation itself is kept beside them for the fast path.
 */
import { createRegistry, type DescMethod, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { ConnectError, createConnectRouter, type HandlerContext, type MethodImpl } from "@connectrpc/connect";
import type { Compression, UniversalHandler } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { max_request_bytes, mostly_waits } from "../../gen/concierge/options/v1/limits_pb.ts";
import type { PlatformConfig } from "../config.ts";
import type { Implementation } from "../service.ts";
import { type AccessRule, accessRule, type Side } from "./access.ts";
import type { DeadlineLimits } from "./deadline.ts";
import { namePublic } from "./errors.ts";
import { BodyMemory, Load } from "./overload.ts";
import { admit, createStepsInterceptor, followContext, type StepsOf } from "./steps.ts";
import { whenAborted } from "./until-aborted.ts";

export interface RpcLimits extends DeadlineLimits {
  /** Largest message, in bytes, before and after decompression, unless the method's contract says otherwise. */
  messageBytes: number;
  /** Longest life of a stream. */
  streamMs: number;
  /** Most unary calls that are worked on at once. */
  callsInFlight: number;
  /** Most of these from one address. */
  callsPerAddress: number;
  /** Most bytes of large bodies that are held at once. */
  bodyMemoryBytes: number;
}

/** The limits of a listener, as the installation has set them. */
export function limitsOf(side: Side, platform: PlatformConfig): RpcLimits {
  return {
    messageBytes: side === "public" ? platform.publicMessageBytes : platform.internalMessageBytes,
    defaultMs: platform.defaultDeadlineSeconds * 1_000,
    maximumMs: platform.maximumDeadlineSeconds * 1_000,
    streamMs: platform.streamSeconds * 1_000,
    callsInFlight: platform.callsInFlight,
    // Services share addresses, and are known.
    callsPerAddress: side === "public" ? platform.callsPerAddress : Number.POSITIVE_INFINITY,
    bodyMemoryBytes: side === "public" ? platform.publicBodyMemoryBytes : platform.internalBodyMemoryBytes,
  };
}

/** One method as a listener serves it. */
export interface Route {
  method: DescMethod;
  rule: AccessRule;
  /** None where nobody has to be known and nothing is spent: health and reflection. */
  service: StepsOf | undefined;
  limits: RpcLimits;
  /** Where its calls take places; not those of streams and of methods that mostly wait, nor those that are open to everybody. */
  load: Load | undefined;
  bodyMemory: BodyMemory;
  /** Through Connect, in any protocol. */
  handler: UniversalHandler;
  implementation: (input: Message, context: HandlerContext) => unknown;
}

export type Routes = Map<string, Route>;

/** Whether a call would find no place. */
export function isFull({ load }: Route): boolean {
  return load?.isFull ?? false;
}

const HEALTH = "grpc.health.v1.Health";
/** Enough for a service's name, which Watch keeps as long as it lasts: anybody may call it. */
const HEALTH_MESSAGE_BYTES = 1_024;

/** Refuses bytes that are no UTF-8, which would be replaced and so stored other than they were sent. */
const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true });
/** Connect takes a decoder along with the options that it hands on, but its types do not say so here. */
type JsonOptions = NonNullable<Parameters<typeof createConnectRouter>[0]>["jsonOptions"];

/** Failures are named here, where they arise: a call whose deadline passes just then has no other place for it. */
const ACCEPTED_COMPRESSION: Compression[] = [compressionGzip, compressionBrotli].map((compression) => ({
  ...compression,
  async decompress(bytes, maxBytes) {
    try {
      return await compression.decompress(bytes, maxBytes);
    } catch (thrown) {
      throw namePublic(ConnectError.from(thrown));
    }
  },
}));

/** What a listener serves: services behind their steps, and third-party ones that are open to everybody. */
export interface Served {
  implementations: Implementation[];
  service?: StepsOf;
}

/** The routes of a listener. Throws a StartupError if a method has no access rule. */
export function createRoutes(limits: RpcLimits, served: Served[], ruleOf = accessRule): Routes {
  const load = new Load(limits.callsInFlight, limits.callsPerAddress);
  const bodyMemory = new BodyMemory(limits.bodyMemoryBytes);
  const routes: Routes = new Map();
  for (const { service, implementations } of served) {
    for (const { desc, implementation } of implementations) {
      for (const method of desc.methods) {
        const run = (implementation as Record<string, Route["implementation"] | undefined>)[method.localName];
        if (!run) continue; // the types of implement() leave this to tests
        const own = { ...limits, messageBytes: messageBytesOf(method, limits) };
        const bound = run.bind(implementation);
        const taken = service && takesPlace(method) ? load : undefined;
        const rule = ruleOf(method);
        const route = { method, rule, service, limits: own, load: taken, bodyMemory, implementation: bound };
        const handler = createHandler(route);
        routes.set(handler.requestPath, { ...route, handler });
      }
    }
  }
  return routes;
}

/** A stream lasts and mostly waits; the listener bounds how many there are. */
function takesPlace(method: DescMethod): boolean {
  return method.methodKind === "unary" && !getOption(method, mostly_waits);
}

function messageBytesOf(method: DescMethod, { messageBytes }: RpcLimits): number {
  if (method.parent.typeName === HEALTH) return HEALTH_MESSAGE_BYTES;
  return hasOption(method, max_request_bytes) ? getOption(method, max_request_bytes) : messageBytes;
}

function createHandler(route: Omit<Route, "handler">): UniversalHandler {
  const { method, service, limits, implementation } = route;
  const { file } = method.parent;
  const registry = createRegistry(file, ...file.dependencies); // what an Any may hold
  const router = createConnectRouter({
    acceptCompression: ACCEPTED_COMPRESSION,
    jsonOptions: { ignoreUnknownFields: false, textDecoder: STRICT_UTF8, registry } as JsonOptions,
    readMaxBytes: limits.messageBytes,
    requestGate: async (context) => {
      const call = followContext(context);
      // Connect does not end this step with the call, and it may wait for another service.
      if (service) await Promise.race([admit(service, route, call), whenAborted(context.signal)]);
    },
    interceptors: [createStepsInterceptor(service, { registry })],
  });
  return router.rpc(method, implementation as MethodImpl<DescMethod>).handlers[0]!;
}
