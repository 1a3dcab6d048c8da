/** What strangers see of a server with production's defaults, beside its methods: next to nothing. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionV1Alpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { answerNothing, publicServices } from "../testing/every-service.ts";
import { sendHttp } from "../testing/http.ts";
import { type PublicServer, startPublicServer } from "../testing/public-server.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";

describe("a server with production's defaults", () => {
  let running: PublicServer;
  const sessions: Http2SessionManager[] = [];

  before(async () => {
    const log = createLogger({ level: "error", mode: "production", destination: { write: () => {} } });
    running = await startPublicServer({ services: publicServices, implement: answerNothing, log });
  });

  after(async () => {
    for (const session of sessions) session.abort();
    await running[Symbol.asyncDispose]();
  });

  const get = (url: string, path: string) => sendHttp("1.1", url, { httpMethod: "GET", path, headers: [] });

  function transportTo(baseUrl: string) {
    const sessionManager = new Http2SessionManager(baseUrl);
    sessions.push(sessionManager);
    return createGrpcTransport({ baseUrl, sessionManager });
  }

  test("S-API-17 the public listener has no reflection, of either version, in any protocol", async () => {
    for (const { typeName } of [ServerReflection, ServerReflectionV1Alpha]) {
      for (const wire of allWires) {
        const { code, status } = await callWire(wire, running.publicUrl, {
          method: Health.method.check,
          path: `/${typeName}/ServerReflectionInfo`,
        });
        assert.equal(code, Code.Unimplemented, wireName(wire));
        if (wire.protocol === "connect") assert.equal(status, 404);
      }
    }
  });

  test("S-API-17 the internal listener has none either, and does not say so to strangers", async () => {
    for (const { typeName } of [ServerReflection, ServerReflectionV1Alpha, { typeName: "concierge.auth.v1.No" }]) {
      const { code } = await callWire(allWires[2]!, running.server.internalUrl, {
        method: Health.method.check,
        path: `/${typeName}/ServerReflectionInfo`,
      });
      assert.equal(code, Code.Unauthenticated);
    }
  });

  test("S-API-17 health on the public listener is that of the whole", async () => {
    for (const wire of allWires) {
      const whole = await callWire(wire, running.publicUrl, { method: Health.method.check });
      assert.equal(whole.answer?.status, Status.SERVING, wireName(wire));
      for (const service of [GreeterService.typeName, "concierge.no.Such"]) {
        const one = await callWire(wire, running.publicUrl, { method: Health.method.check, message: { service } });
        assert.deepEqual([one.code, one.reason], [Code.NotFound, "NOT_FOUND"], wireName(wire));
      }
    }
    const health = createClient(Health, transportTo(running.publicUrl));
    assert.deepEqual(Object.keys((await health.list({})).statuses), [""]);
    const watched = health.watch({ service: GreeterService.typeName })[Symbol.asyncIterator]();
    assert.equal((await watched.next()).value?.status, Status.SERVICE_UNKNOWN);
    await watched.return?.();
  });

  test("S-API-17 health on the internal listener is that of each service, and needs no token", async () => {
    const health = createClient(Health, transportTo(running.server.internalUrl));
    assert.equal((await health.check({ service: GreeterService.typeName })).status, Status.SERVING);
    await assert.rejects(health.check({ service: "concierge.no.Such" }), (error) => reasonOf(error) === "NOT_FOUND");
  });

  test("S-API-17 only the internal listener has metrics and reasons, and it asks for no token", async () => {
    const { publicUrl } = running;
    const { internalUrl } = running.server;
    for (const path of ["/metrics", "/metrics/", "/debug/pprof", "/version", "/env"]) {
      assert.equal((await get(publicUrl, path)).status, 404, path);
    }
    const metrics = await get(internalUrl, "/metrics");
    assert.equal(metrics.status, 200);
    assert.match(String(metrics.body), /^rpc_server_calls_in_flight \d+$/m);
    // A process that was held up for a second is not ready for another one.
    const ready = (url: string) =>
      until("it is ready", async () => {
        const { status, body } = await get(url, "/readyz");
        return status === 200 && JSON.parse(String(body));
      });
    assert.deepEqual(await ready(publicUrl), { status: "ready" });
    assert.deepEqual(await ready(internalUrl), { status: "ready", missing: [] });
    assert.deepEqual(JSON.parse(String((await get(publicUrl, "/healthz")).body)), { status: "alive" });
  });
});
