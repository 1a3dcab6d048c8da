/** greeter's RPCs: unpack, call one domain function, pack. */
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { implement } from "../../service.ts";
import { greet } from "./greetings.ts";

export function greeterHandlers() {
  return [
    implement(GreeterService, {
      sayHello: ({ name }) => ({ message: greet(name) }),
    }),
  ];
}
