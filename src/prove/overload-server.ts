/**
 * Worker: a server with a known bound, at production settings but for the limit on one address. "waiting" does what a service
 * over a database does: calls wait in line for one of a few places, and then for a fixed time. "busy" computes for each call.
 * "light" does nothing but greet: what a call costs there is what any call costs, a refused one, too.
 */
import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../clock.ts";
import { createLogger } from "../log.ts";
import type { Implementation } from "../service.ts";
import { greet } from "../services/greeter/greetings.ts";
import { greeterHandlers } from "../services/greeter/handlers.ts";
import { type PublicServer, startPublicServer } from "../testing/public-server.ts";
import { answerCommands } from "./workers.ts";

export type Bound = "waiting" | "busy" | "light";

const PLACES = 20;
const WORK_MS = 20;
/** About two milliseconds of a processor. */
const HASHED_BYTES = 3 * 1024 * 1024;
const TOKEN_SECONDS = 24 * 3600;
const REFUSALS = /^rpc_server_refused_total\{reason="overloaded"\} (\d+)$/m;
let running: PublicServer | undefined;

function busyHandlers() {
  const bytes = Buffer.alloc(HASHED_BYTES);
  const sayHello = ({ name }: { name: string }) => {
    createHash("sha256").update(bytes).digest();
    return { message: greet(name) };
  };
  return greeterWith(sayHello);
}

function greeterWith(sayHello: (request: { name: string }) => unknown): Implementation[] {
  const implementation = { ...greeterHandlers()[0]!.implementation, sayHello };
  return [{ desc: GreeterService, implementation: implementation as unknown as Implementation["implementation"] }];
}

const handlersOf: Record<Bound, () => Implementation[]> = {
  waiting: waitingHandlers,
  busy: busyHandlers,
  light: greeterHandlers,
};

function waitingHandlers() {
  const line: (() => void)[] = [];
  let free = PLACES;
  const sayHello = async ({ name }: { name: string }) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => line.push(resolve));
    await delay(WORK_MS);
    const next = line.shift();
    if (next) next();
    else free++;
    return { message: greet(name) };
  };
  return greeterWith(sayHello);
}

answerCommands({
  async start({ bound, variables }: { bound: Bound; variables: Record<string, string> }) {
    running = await startPublicServer({
      services: [{ name: "greeter", services: [GreeterService] }],
      implement: () => handlersOf[bound](),
      variables: { CONCIERGE_REQUESTS_PER_SECOND: "0", ...variables },
      log: createLogger({ level: "info", mode: "production", clock: systemClock }),
    });
    const path = `/${GreeterService.typeName}/${GreeterService.method.sayHello.name}`;
    return { port: Number(new URL(running.publicUrl).port), path, accessToken: running.accessToken(TOKEN_SECONDS) };
  },
  /** Calls that were refused as OVERLOADED so far. */
  async refusals() {
    const metrics = await (await fetch(`${running!.server.internalUrl}/metrics`)).text();
    return Number(REFUSALS.exec(metrics)?.[1] ?? 0);
  },
});
