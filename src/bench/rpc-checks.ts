/** That every server of `make bench/rpc` does the whole of its work: what is left out would look like speed. */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code } from "../errors.ts";
import type { ServerProcess } from "./rpc-servers/process.ts";
import { greeting, hasChain } from "./rpc-servers/task.ts";
import type { Work } from "./rpc-work.ts";

/** Calls the server by an ordinary client: it must answer right and, with our chain, refuse what has to be refused. */
export async function checkAnswers({ name: server, port }: ServerProcess, work: Work): Promise<{ goodCalls: number }> {
  const baseUrl = `http://127.0.0.1:${port}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const client = createClient(GreeterService, createGrpcTransport({ baseUrl, sessionManager }));
  const call = async (name: string, token?: string) => {
    try {
      const headers = new Headers(token === undefined ? [] : [["authorization", `Bearer ${token}`]]);
      return (await client.sayHello({ name }, { headers, timeoutMs: 5_000 })).message;
    } catch (error) {
      return (error as { code?: Code }).code;
    }
  };
  const { name } = work.task;
  const expectations: [string, unknown, unknown][] = [["a good call", await call(name, work.token), greeting(name)]];
  if (hasChain(server)) {
    expectations.push(
      ["a call without a token", await call(name), Code.Unauthenticated],
      ["a token of an ended session", await call(name, work.deadToken), Code.Unauthenticated],
      ["a name that breaks its rule", await call("", work.token), Code.InvalidArgument],
    );
  }
  sessionManager.abort();
  for (const [what, actual, expected] of expectations) {
    if (actual !== expected) throw new Error(`${server} answered ${what} with ${actual} instead of ${expected}`);
  }
  return { goodCalls: 1 };
}

/** Compares the fields of the access logs with those of ours, which come first. */
export async function checkLogFields(servers: ServerProcess[]): Promise<void> {
  const fields = new Map<string, string>();
  for (const server of servers.filter(({ name }) => hasChain(name))) {
    const lines = await server.takeCallLines(4);
    const names = Object.keys(lines.find(({ code }) => code === "ok") ?? {});
    fields.set(server.name, names.sort().join(" "));
  }
  const ours = fields.get("ours")!;
  for (const [name, others] of fields) {
    if (others !== ours) throw new Error(`${name} logs "${others}", but ours logs "${ours}"`);
  }
}

/** That each of these calls is in the log, and has ended well. */
export async function checkLog(server: ServerProcess, calls: number): Promise<void> {
  if (!hasChain(server.name)) return;
  const lines = await server.takeCallLines(calls);
  const failed = lines.find(({ code }) => code !== "ok");
  if (failed) throw new Error(`${server.name} logged a call that failed: ${JSON.stringify(failed)}`);
  if (lines.length !== calls) throw new Error(`${server.name} logged ${lines.length} of ${calls} calls`);
}

/** That the metrics have counted as many. */
export async function checkMetrics(server: ServerProcess, calls: number): Promise<void> {
  const counted = await server.countedCalls();
  if (hasChain(server.name) && counted !== calls)
    throw new Error(`${server.name} counted ${counted} of ${calls} calls`);
}
