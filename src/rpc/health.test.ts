import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createHandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import {
  Health,
  HealthCheckRequestSchema,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Status,
} from "../../gen/grpc/health/v1/health_pb.ts";
import { systemClock } from "../clock.ts";
import { reasonOf } from "../errors.ts";
import { listen } from "../listener/listener.ts";
import { createHealth } from "./health.ts";

const greeter = "concierge.greeter.v1.GreeterService";

/** A real server and client for one implementation of the health service. */
async function serve(implementation: ServiceImpl<typeof Health>, shutdownSignal?: AbortSignal) {
  const handler = connectNodeAdapter({ routes: (router) => router.service(Health, implementation), shutdownSignal });
  const listener = await listen({ host: "127.0.0.1", port: 0, handler, clock: systemClock });
  const sessionManager = new Http2SessionManager(listener.url);
  const client = createClient(Health, createGrpcTransport({ baseUrl: listener.url, sessionManager }));
  return {
    client,
    async [Symbol.asyncDispose]() {
      sessionManager.abort();
      await listener[Symbol.asyncDispose]();
    },
  };
}

const isNotFound = (error: unknown) => {
  assert.equal(ConnectError.from(error).code, Code.NotFound);
  assert.equal(reasonOf(error), "NOT_FOUND");
  return true;
};

async function next(stream: AsyncIterator<HealthCheckResponse>): Promise<Status | undefined> {
  return (await stream.next()).value?.status;
}

test("nothing serves until it is said to, and an unknown service is NOT_FOUND", async () => {
  const health = createHealth([greeter]);
  await using server = await serve(health.implementation);
  const check = async (service: string) => (await server.client.check({ service })).status;
  assert.equal(await check(""), Status.NOT_SERVING);
  assert.equal(await check(greeter), Status.NOT_SERVING);
  health.setServing(greeter, true);
  assert.deepEqual([await check(""), await check(greeter)], [Status.NOT_SERVING, Status.SERVING]);
  health.setAll(true);
  assert.deepEqual([await check(""), await check(greeter)], [Status.SERVING, Status.SERVING]);
  health.setAll(false);
  assert.deepEqual([await check(""), await check(greeter)], [Status.NOT_SERVING, Status.NOT_SERVING]);
  await assert.rejects(check("concierge.Unknown"), isNotFound);
  assert.throws(() => health.setServing("concierge.Unknown", true), /unknown service/);
});

test("S-API-17 for everybody only the overall status is visible", async () => {
  const health = createHealth([greeter]);
  health.setAll(true);
  await using server = await serve(health.overallOnly);
  assert.equal((await server.client.check({})).status, Status.SERVING);
  await assert.rejects(server.client.check({ service: greeter }), isNotFound);
  assert.deepEqual(Object.keys((await server.client.list({})).statuses), [""]);
  const controller = new AbortController();
  const watched = server.client.watch({ service: greeter }, { signal: controller.signal })[Symbol.asyncIterator]();
  assert.equal(await next(watched), Status.SERVICE_UNKNOWN);
  controller.abort();
  await assert.rejects(watched.next());
});

test("List answers for the process and for every service", async () => {
  const health = createHealth([greeter]);
  health.setServing(greeter, true);
  await using server = await serve(health.implementation);
  const { statuses } = await server.client.list({});
  const plain = Object.fromEntries(Object.entries(statuses).map(([name, { status }]) => [name, status]));
  assert.deepEqual(plain, { "": Status.NOT_SERVING, [greeter]: Status.SERVING });
});

test("Watch sends the status and then every change of it, but no repetition", async () => {
  const health = createHealth([greeter]);
  await using server = await serve(health.implementation);
  const controller = new AbortController();
  const watched = server.client.watch({ service: greeter }, { signal: controller.signal })[Symbol.asyncIterator]();
  assert.equal(await next(watched), Status.NOT_SERVING);
  health.setServing("", true); // of somebody else
  health.setServing(greeter, false); // not a change
  health.setServing(greeter, true);
  assert.equal(await next(watched), Status.SERVING);
  health.setAll(false);
  assert.equal(await next(watched), Status.NOT_SERVING);
  controller.abort();
  await assert.rejects(watched.next());
});

test("Watch of an unknown service says so and stays open until the server drains, which it tells", async () => {
  const health = createHealth([greeter]);
  const shutdown = new AbortController();
  await using server = await serve(health.implementation, shutdown.signal);
  const watched = server.client.watch({ service: "concierge.Unknown" })[Symbol.asyncIterator]();
  assert.equal(await next(watched), Status.SERVICE_UNKNOWN);
  let ended = false;
  const end = watched.next().finally(() => {
    ended = true;
  });
  health.setAll(true);
  await server.client.check({});
  assert.equal(ended, false);
  shutdown.abort(new ConnectError("draining", Code.Unavailable));
  await assert.rejects(end, (error) => ConnectError.from(error).code === Code.Unavailable);
});

function watchContext() {
  return createHandlerContext({
    service: Health,
    method: Health.method.watch,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "http://127.0.0.1/",
  });
}

test("Watch sees a change that comes while it is sending", async () => {
  const health = createHealth([]);
  const watched = health.implementation.watch(create(HealthCheckRequestSchema), watchContext())[Symbol.asyncIterator]();
  assert.equal((await watched.next()).value?.status, Status.NOT_SERVING);
  health.setAll(true); // the generator is still at its yield
  assert.equal((await watched.next()).value?.status, Status.SERVING);
});

test("Watch leaves nothing behind when the call ends, neither on its signal nor in the health service", async () => {
  const health = createHealth([]);
  /** A call that waits for a change and ends without one. */
  async function watchAndLeave(): Promise<WeakRef<AbortSignal>> {
    const context = watchContext();
    const listenersBefore = getEventListeners(context.signal, "abort").length;
    const watched = health.implementation.watch(create(HealthCheckRequestSchema), context)[Symbol.asyncIterator]();
    await watched.next();
    const change = watched.next();
    health.setAll(true);
    assert.equal((await change).value?.status, Status.SERVING);
    assert.equal(getEventListeners(context.signal, "abort").length, listenersBefore);
    const end = watched.next();
    context.abort(new ConnectError("gone", Code.Canceled));
    await assert.rejects(end, /gone/);
    return new WeakRef(context.signal);
  }
  const signal = await watchAndLeave();
  await new Promise((resolve) => setImmediate(resolve));
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  assert.equal(signal.deref(), undefined);
});
