/** What the parts of the journey are made of: steps that print a line each, and clients. */
import type { DescService } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { connectService } from "../client/service-client.ts";
import type { Clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import type { LedgerEntry } from "./push-stand-in.ts";

export interface JourneyOptions {
  /** Where a service's listeners are. */
  publicUrl(service: string): string;
  internalUrl(service: string): string;
  operatorKeys: ServiceKey[];
  /** What was pushed, as the stand-in tells. */
  pushes(): Promise<LedgerEntry[]>;
  /** What a consumer of Kafka was told of a new artist; not set without Kafka. */
  artistCreated?: ((userId: string) => Promise<{ id: string; type: string }>) | undefined;
  clock: Clock;
  print(line: string): void;
}

/** Runs one step and prints its line. */
export type Step = <T extends { result: string }>(name: string, run: () => Promise<T>) => Promise<T>;

export function createStep({ clock, print }: Pick<JourneyOptions, "clock" | "print">): Step {
  let number = 0;
  return async (name, run) => {
    number += 1;
    const label = `${String(number).padStart(2)}. ${name.padEnd(24)}`;
    const startedAt = clock.monotonic();
    const passed = () => `${(clock.monotonic() - startedAt).toFixed(1).padStart(8)} ms`;
    try {
      const answer = await run();
      print(`${label} ok    ${passed()}  ${answer.result}`);
      return answer;
    } catch (error) {
      print(`${label} FAIL  ${passed()}  ${(error as Error).message}`);
      throw error;
    }
  };
}

export function expect(condition: boolean, problem: string): asserts condition {
  if (!condition) throw new Error(problem);
}

/** gRPC clients of the public listeners; one connection for each service. */
export class PublicClients implements Disposable {
  readonly #urlOf: (service: string) => string;
  readonly #sessions = new Map<string, Http2SessionManager>();

  constructor(urlOf: (service: string) => string) {
    this.#urlOf = urlOf;
  }

  client<Desc extends DescService>(desc: Desc, service: string, accessToken?: string): Client<Desc> {
    const baseUrl = this.#urlOf(service);
    const sessionManager = this.#sessions.get(baseUrl) ?? new Http2SessionManager(baseUrl);
    this.#sessions.set(baseUrl, sessionManager);
    const authorize: Interceptor = (next) => (request) => {
      if (accessToken !== undefined) request.header.set("authorization", `Bearer ${accessToken}`);
      return next(request);
    };
    return createClient(desc, createGrpcTransport({ baseUrl, sessionManager, interceptors: [authorize] }));
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.values()) session.abort();
  }
}

/** Calls a service's internal API as an operator, for the time of `work`. */
export async function asOperator<Desc extends DescService, T>(
  { operatorKeys, internalUrl, clock }: JourneyOptions,
  desc: Desc,
  service: string,
  work: (client: Client<Desc>) => Promise<T>,
): Promise<T> {
  const key = operatorKeys.find(({ callee }) => callee === service);
  expect(key !== undefined, `the operator has no key for ${service}`);
  using connection = connectService({ baseUrl: internalUrl(service), key, clock });
  return await work(connection.client(desc));
}

export async function refusalOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => {
      throw new Error("the call was not refused");
    },
    (error: unknown) => ConnectError.from(error),
  );
}
