/**
 * greeter: the smallest complete service. Copy this folder to start a new one; CONTRIBUTING says what else to touch.
 */
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { defineService } from "../../service.ts";
import { config } from "./config.ts";
import { greeterHandlers } from "./handlers.ts";

export const greeter = defineService({
  name: "greeter",
  ports: { public: 8086, internal: 50056 },
  config,
  services: [GreeterService],
  peers: { auth: AuthInternalService },
  start: () => ({ implementations: greeterHandlers() }),
});
