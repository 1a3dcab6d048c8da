/**
 * The process of one server of `make bench/rpc`: `node main.ts <name>`, started with a channel to its parent. It is told the
 * task, says its port, and then, whenever it is asked, what CPU time it has used. It ends when the parent is gone.
 */
import { startBareHttp2 } from "./bare-http2.ts";
import { createChain } from "./chain.ts";
import { startConnectAdapter } from "./connect-adapter.ts";
import { startGrpcJs } from "./grpc-js.ts";
import { startOurs } from "./ours.ts";
import type { BenchServer, ServerName, Task } from "./task.ts";

const starters: Record<ServerName, (task: Task) => Promise<BenchServer>> = {
  ours: (task) => startOurs(task, true),
  "ours-long-way": (task) => startOurs(task, false),
  "grpc-js-chain": async (task) => startGrpcJs(await createChain(task)),
  "grpc-js-bare": () => startGrpcJs(undefined),
  "connect-adapter": async (task) => startConnectAdapter(await createChain(task)),
  "http2-bare": ({ answer }) => startBareHttp2(answer),
};

/** What the parent sends: the task once, then any number of questions. */
export type ToServer = { task: Task } | "cpu time" | "metrics";
export type FromServer = { port: number } | { cpuMicroseconds: number } | { metrics: string | undefined };

const { promise: started, resolve: hasStarted } = Promise.withResolvers<BenchServer>();

async function answer(message: ToServer): Promise<FromServer> {
  switch (message) {
    case "cpu time": {
      const { user, system } = process.cpuUsage();
      return { cpuMicroseconds: user + system };
    }
    case "metrics":
      return { metrics: await (await started).metrics?.() };
    default:
      hasStarted(await starters[process.argv[2] as ServerName](message.task));
      return { port: (await started).port };
  }
}

process.on("disconnect", () => process.exit());
process.on("message", async (message: ToServer) => void process.send!(await answer(message)));
