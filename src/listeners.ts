/** The ports of a process: the public and the internal listener, and one for plain HTTP where a service has such paths. */
import type { Clock } from "./clock.ts";
import type { PlatformConfig } from "./config.ts";
import { StartupError } from "./errors.ts";
import { type Listener, listen, type RequestHandler, type TakeStream } from "./listener/listener.ts";
import type { Logger } from "./log.ts";
import type { Side } from "./rpc/access.ts";
import { withCors } from "./rpc/cors.ts";
import type { RequestHandlers } from "./rpc/handler.ts";
import type { ServiceDefinition } from "./service.ts";

export interface ListenersOptions {
  definitions: ServiceDefinition[];
  platform: PlatformConfig;
  clock: Clock;
  log: Logger;
}

/** Where plain HTTP has always been. */
const REST_PORT = 8001;

/** Opens both sides. What answers is looked up for each request: it is not there yet. */
export async function openListeners(
  options: ListenersOptions,
  handlers: Record<Side, RequestHandlers>,
  opened: AsyncDisposableStack,
): Promise<Record<Side, Listener>> {
  const { platform } = options;
  const ports = portsOf(options);
  const open = async (side: Side) => {
    const answer: RequestHandler = (request, response, peer) => handlers[side].answer(request, response, peer);
    const handler = side === "public" ? withCors(platform.allowedOrigins, answer) : answer;
    const takeStream: TakeStream = (stream, headers, rawHeaders, peer) =>
      handlers[side].takeStream?.(stream, headers, rawHeaders, peer) ?? false;
    return opened.use(await openListener(options, { port: ports[side], handler, takeStream }));
  };
  return { public: await open("public"), internal: await open("internal") };
}

/** Where the port is not set, it is a free one if the public listener takes a free one. */
export function openRestListener(
  options: ListenersOptions,
  port: number | undefined,
  handler: RequestHandler,
): Promise<Listener> {
  const usual = options.platform.publicPort === 0 ? 0 : REST_PORT;
  return openListener(options, { port: port ?? usual, handler });
}

function openListener(
  { platform, clock, log }: ListenersOptions,
  own: { port: number; handler: RequestHandler; takeStream?: TakeStream },
): Promise<Listener> {
  return listen({
    ...own,
    host: platform.host,
    tls: { certificatePath: platform.tlsCertificatePath, keyPath: platform.tlsKeyPath },
    cleartext: platform.cleartext,
    onCertificateProblem: (error) => log.error({ error }, "the changed certificate cannot be used; the old one stays"),
    onFlood: (address) => log.warn({ address }, "an address floods the listener and is shut out for a while"),
    trustedProxies: platform.trustedProxies,
    limits: { connectionsPerAddress: platform.connectionsPerAddress },
    clock,
  });
}

/** Set ports win; else a service alone takes its own, and several together take the platform's. */
function portsOf({ definitions, platform }: ListenersOptions): Record<Side, number> {
  const own = definitions.length === 1 ? definitions[0]!.ports : { public: 8080, internal: 50051 };
  const ports = { public: platform.publicPort ?? own.public, internal: platform.internalPort ?? own.internal };
  if (ports.public === ports.internal && ports.public !== 0) {
    throw new StartupError("the public and the internal listener must not share a port");
  }
  return ports;
}
