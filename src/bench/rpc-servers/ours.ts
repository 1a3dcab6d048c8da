/** Our own server, as `concierge serve` runs it in production, without a database behind it. */
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../../clock.ts";
import { createLogger } from "../../log.ts";
import { implement } from "../../service.ts";
import { startPublicServer } from "../../testing/public-server.ts";
import { type BenchServer, greeting, ISSUER, sessionsInMemory, type Task } from "./task.ts";

/** A limit that no load here reaches; it is looked at with every call all the same. */
const REQUESTS_PER_SECOND = "1000000";

const unused = () => {
  throw new Error("the benchmark does not call this");
};

const implementation = implement(GreeterService, {
  sayHello: ({ name }) => ({ message: greeting(name) }),
  sayHelloStream: unused,
  sayHelloClientStream: unused,
  sayHelloBidirectional: unused,
});

export async function startOurs(task: Task, fastPath: boolean): Promise<BenchServer> {
  const { publicUrl, server } = await startPublicServer({
    services: [{ name: "greeter", services: [GreeterService] }],
    implement: () => [implementation],
    keys: task.keys,
    checkSession: sessionsInMemory(task),
    variables: {
      CONCIERGE_ISSUER: ISSUER,
      CONCIERGE_REQUESTS_PER_SECOND: REQUESTS_PER_SECOND,
      CONCIERGE_RPC_FAST_PATH: String(fastPath),
    },
    log: createLogger({ level: "info", mode: "production", clock: systemClock }),
  });
  return {
    port: Number(new URL(publicUrl).port),
    metrics: async () => (await fetch(`${server.internalUrl}/metrics`)).text(),
  };
}
