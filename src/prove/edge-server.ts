/**
 * Worker: the server that is attacked, at production settings. greeter answers for real, behind access tokens; the other public
 * services take what is valid and answer nothing. The log goes to standard output, as in production.
 */
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../clock.ts";
import { createLogger } from "../log.ts";
import { greeterHandlers } from "../services/greeter/handlers.ts";
import { answerNothing, publicServices } from "../testing/every-service.ts";
import { type PublicServer, startPublicServer } from "../testing/public-server.ts";
import { answerCommands } from "./workers.ts";

const TOKEN_SECONDS = 24 * 3600;
let running: PublicServer | undefined;

answerCommands({
  /** Opens the listeners; `variables` are instead of production's defaults. */
  async start({ variables }: { variables: Record<string, string> }) {
    running = await startPublicServer({
      services: publicServices,
      implement: (name) => (name === "greeter" ? greeterHandlers() : answerNothing(name)),
      variables,
      log: createLogger({ level: "info", mode: "production", clock: systemClock }),
    });
    const { port } = new URL(running.publicUrl);
    const path = `/${GreeterService.typeName}/${GreeterService.method.sayHello.name}`;
    return { port: Number(port), path, accessToken: running.accessToken(TOKEN_SECONDS) };
  },
  /** Gives back what memory can be given back, so that what is left is in use. */
  collectGarbage() {
    globalThis.gc?.();
  },
});
