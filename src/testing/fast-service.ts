/** Unary methods for tests of the short way, with a handler that a test chooses, and what an edge has counted of them. */
import { create, toBinary } from "@bufbuild/protobuf";
import { DurationSchema, EmptySchema, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { SayHelloRequestSchema, SayHelloResponseSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { methodOf, type TestMethod, testService } from "./contract.ts";
import { type Edge, type EdgeOptions, startEdge } from "./edge.ts";
import type { HeaderLine } from "./http.ts";
import { until } from "./until.ts";
import type { Wire } from "./wire.ts";

export type Name = typeof SayHelloRequestSchema;
export type Greeting = typeof SayHelloResponseSchema;

const greeting = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const user: Pick<TestMethod, "access"> = { access: { who: { case: "user", value: {} } } };
/** Methods that the short way takes, and some that it leaves. */
export const service = testService("FastService", {
  Greet: { ...greeting, ...open, idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
  Mine: { ...greeting, ...user },
  Empty: { input: EmptySchema, output: EmptySchema, ...open },
  MyEmpty: { input: EmptySchema, output: EmptySchema, ...user },
  Misfit: { input: EmptySchema, output: DurationSchema, ...open },
  Stream: { ...greeting, ...open, stream: "server" },
  Large: { ...greeting, ...open, maxRequestBytes: 100_000 },
  Small: { ...greeting, ...open, maxRequestBytes: 50 },
});
export const greet = methodOf<Name, Greeting>(service, "Greet");
export const mine = methodOf<Name, Greeting>(service, "Mine");
export const empty = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Empty");
export const myEmpty = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "MyEmpty");
export const misfit = methodOf<typeof EmptySchema, typeof DurationSchema>(service, "Misfit");
export const large = methodOf<Name, Greeting>(service, "Large");
export const small = methodOf<Name, Greeting>(service, "Small");

export type Act = (input: { name: string }, context: HandlerContext) => unknown;
export const answer: Act = ({ name }) => ({ message: name });
/** What the methods with names do; each test chooses. */
export const handler = { act: answer };
const run: Act = (input, context) => handler.act(input, context);
const implementation = {
  ...{ greet: run, mine: run, large: run, small: run },
  ...{ empty: () => ({}), myEmpty: () => ({}), misfit: () => ({ nanos: 1.5 }) },
  async *stream(input: { name: string }) {
    yield { message: input.name };
  },
} as unknown as ServiceImpl<typeof service>;

/** An edge with these methods. */
export const startFast = (options: Partial<EdgeOptions> = {}) =>
  startEdge({ implementations: [{ desc: service, implementation }], ...options });

export const grpc: Wire = { protocol: "grpc", encoding: "proto", http: "2" };
export const connect: Wire = { protocol: "connect", encoding: "proto", http: "2" };
/** What takes the short way. */
export const fastWires = [grpc, connect];
export const ann = { name: "Ann" };
export const annBytes = toBinary(SayHelloRequestSchema, create(SayHelloRequestSchema, ann));
export const timeoutOf = ({ protocol }: Wire, ms: number): HeaderLine =>
  protocol === "connect" ? ["connect-timeout-ms", String(ms)] : ["grpc-timeout", `${ms}m`];
export const pathOf = (method: { name: string }) => `/${service.typeName}/${method.name}`;

async function metric({ metrics }: Edge, name: string): Promise<number> {
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(await metrics.text())?.[1] ?? 0);
}
export const fastCalls = (edge: Edge) => metric(edge, "rpc_server_fast_path_total");
/** Waits until every call is over and counted. */
export const nothingOpen = (edge: Edge) =>
  until("nothing is open", async () => (await metric(edge, "rpc_server_calls_in_flight")) === 0);
