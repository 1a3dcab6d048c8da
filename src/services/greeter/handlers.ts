/** greeter's RPCs, one of each kind: unpack, call one domain function, pack. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { implement } from "../../service.ts";
import { greet, greetAgain, greetAll } from "./greetings.ts";

export function greeterHandlers() {
  return [
    implement(GreeterService, {
      sayHello: ({ name }) => ({ message: greet(name) }),

      sayHelloStream({ name, count, interval }, { signal }) {
        return greetAgain(name, { count, pauseMs: interval ? durationMs(interval) : 0 }, signal);
      },

      sayHelloClientStream: async (people) => ({ message: await greetAll(people) }),

      async *sayHelloBidirectional(people) {
        for await (const { name } of people) yield { message: greet(name) };
      },
    }),
  ];
}
