/** Services that start alone, in any order, before what they need is there: they wait, say for what, and get ready. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { UserService } from "../gen/concierge/user/v1/user_service_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../gen/grpc/health/v1/health_pb.ts";
import { configurationOf } from "./cli/configuration.ts";
import { systemClock } from "./clock.ts";
import type { ServiceKey } from "./config.ts";
import { MIGRATIONS_FOLDER } from "./db/migrations.ts";
import { runJourney } from "./dev/journey.ts";
import { identityOf, readLedger, startPushStandIn } from "./dev/push-stand-in.ts";
import { peerVariables } from "./dev/variables.ts";
import { ExitCode, StartupError } from "./errors.ts";
import { createLogger } from "./log.ts";
import { type RunningServer, startServer } from "./server.ts";
import type { ServiceDefinition } from "./service.ts";
import { greeter } from "./services/greeter/service.ts";
import { user } from "./services/user/service.ts";
import { services } from "./services.ts";
import { freePort, occupiedPort } from "./testing/command.ts";
import { type TestEnvironment, testEnvironment } from "./testing/environment.ts";
import { type FaultProxy, startFaultProxy } from "./testing/fault-proxy.ts";
import { until } from "./testing/until.ts";

const log = createLogger({ level: "fatal", mode: "development" });
const names = services.map(({ name }) => name);

/** Orders in which six services and their database server may come up; "database" is the moment it appears. */
const orders = [
  ["notification-sender", "greeter", "notification", "user", "organization", "access", "auth", "database"],
  ["database", "auth", "access", "organization", "user", "notification", "notification-sender", "greeter"],
  ["user", "database", "organization", "greeter", "notification-sender", "auth", "notification", "access"],
  ["access", "notification", "auth", "greeter", "database", "user", "organization", "notification-sender"],
];

describe("services that start alone", () => {
  let environment: TestEnvironment;
  let proxy: FaultProxy;
  let folder: string;
  let push: Awaited<ReturnType<typeof startPushStandIn>>;

  before(async () => {
    environment = await testEnvironment(services);
    const { hostname, port } = new URL(environment.variables.CONCIERGE_AUTH_DATABASE_URL!);
    proxy = await startFaultProxy({ host: hostname, port: Number(port) });
    folder = await mkdtemp(join(tmpdir(), "concierge-mount-"));
    push = await startPushStandIn({
      ledgerFile: join(folder, "ledger.jsonl"),
      clock: systemClock,
      serviceAccount: identityOf(JSON.parse(environment.variables.CONCIERGE_NOTIFICATION_SENDER_FIREBASE_CREDENTIALS!)),
      projectId: "concierge-test",
    });
  });

  after(async () => {
    await push[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
    await proxy[Symbol.asyncDispose]();
    await environment[Symbol.asyncDispose]();
  });

  /** One service on these ports, which reaches its database through the proxy and its peers at theirs. */
  function startAlone(
    definition: ServiceDefinition,
    ports: { public: number; internal: number },
    peerPort: (name: string) => number,
  ): Promise<RunningServer> {
    const name = definition.name.replaceAll("-", "_").toUpperCase();
    const env: Record<string, string> = {
      ...environment.variables,
      ...peerVariables(definition, (peer) => `http://127.0.0.1:${peerPort(peer)}`),
      CONCIERGE_MODE: "development",
      CONCIERGE_PUBLIC_PORT: String(ports.public),
      CONCIERGE_INTERNAL_PORT: String(ports.internal),
      CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT: push.url,
    };
    for (const variable of [`CONCIERGE_${name}_DATABASE_URL`, `CONCIERGE_${name}_DATABASE_JOB_URL`]) {
      if (env[variable] === undefined) continue;
      const url = new URL(env[variable]);
      url.port = String(proxy.port);
      env[variable] = url.href;
    }
    const configuration = configurationOf(env, [definition]);
    return startServer({
      ...configuration,
      definitions: [definition],
      migrationsFolder: MIGRATIONS_FOLDER,
      clock: systemClock,
      log,
    });
  }

  async function missingOf(server: RunningServer): Promise<string[]> {
    const response = await fetch(`${server.internalUrl}/readyz`);
    const body = (await response.json()) as { missing: string[] };
    assert.equal(response.status, body.missing.length === 0 ? 200 : 503);
    return body.missing;
  }

  test("R-DEP-10 not ready before the schema and then the keys are verified, and says which is missing", async () => {
    proxy.cut();
    const authPort = await freePort();
    await using opened = new AsyncDisposableStack();
    const server = opened.use(await startAlone(user, { public: 0, internal: 0 }, () => authPort));
    const health = createClient(Health, createConnectTransport({ baseUrl: server.internalUrl, httpVersion: "1.1" }));
    const users = createClient(UserService, createConnectTransport({ baseUrl: server.publicUrl, httpVersion: "1.1" }));
    const assertWaiting = async (what: string) => {
      assert.deepEqual(await missingOf(server), [`user: waiting for ${what}`]);
      assert.equal((await health.check({})).status, Status.NOT_SERVING);
      const refused = await users.getMe({}).catch((error: unknown) => ConnectError.from(error));
      assert.ok(refused instanceof ConnectError && refused.code === Code.Unavailable, String(refused));
    };
    await assertWaiting("the database");
    await proxy.heal();
    await until("the schema is verified", async () => (await missingOf(server))[0]?.includes("keys") ?? false);
    await assertWaiting("the signing keys of auth");
    const auth = services.find(({ name }) => name === "auth")!;
    opened.use(await startAlone(auth, { public: 0, internal: authPort }, () => 0));
    await server.ready;
    assert.deepEqual(await missingOf(server), []);
    assert.equal((await health.check({})).status, Status.SERVING);
  });

  for (const order of orders) {
    test(`R-DEP-11 ready within 5 s of the last, in the order ${order.join(", ")}`, async () => {
      assert.deepEqual([...order].sort(), [...names, "database"].sort());
      proxy.cut();
      const ports = new Map<string, { public: number; internal: number }>();
      for (const name of names) ports.set(name, { public: await freePort(), internal: await freePort() });
      await using opened = new AsyncDisposableStack();
      const servers: RunningServer[] = [];
      const failures: unknown[] = [];
      for (const name of order) {
        if (name === "database") {
          await proxy.heal();
          continue;
        }
        const definition = services.find((candidate) => candidate.name === name)!;
        const server = await startAlone(definition, ports.get(name)!, (peer) => ports.get(peer)!.internal);
        server.ready.catch((error: unknown) => failures.push(error));
        servers.push(opened.use(server));
      }
      const startedAt = systemClock.monotonic();
      await Promise.all(servers.map(({ ready }) => ready));
      for (const server of servers) await until("ready", async () => (await missingOf(server)).length === 0);
      assert.ok(systemClock.monotonic() - startedAt < 5_000);
      assert.deepEqual(failures, []);
      // Being ready means that all of it works together.
      if (order === orders[0]) await journey(ports);
    });
  }

  test("R-DEP-11 each is ready soon although a balancer lets nobody reach one that is not", async () => {
    await using opened = new AsyncDisposableStack();
    await proxy.heal();
    const places = new Map<string, { internal: number; balancer: FaultProxy }>();
    for (const name of names) {
      const internal = await freePort();
      const balancer = opened.use(await startFaultProxy({ host: "127.0.0.1", port: internal }));
      balancer.cut();
      places.set(name, { internal, balancer });
    }
    const ready = services.map(async (definition) => {
      const { internal, balancer } = places.get(definition.name)!;
      const ports = { public: 0, internal };
      const server = opened.use(await startAlone(definition, ports, (peer) => places.get(peer)!.balancer.port));
      await server.ready;
      await balancer.heal();
    });
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(() => late.reject(new Error("they wait for each other")), 20_000);
    await Promise.race([Promise.all(ready), late.promise]).finally(() => clearTimeout(timer));
  });

  async function journey(ports: Map<string, { public: number; internal: number }>): Promise<void> {
    const lines: string[] = [];
    const called = ["ACCESS", "NOTIFICATION", "ORGANIZATION"];
    const keys = called.flatMap((name) => {
      return (JSON.parse(environment.variables[`CONCIERGE_${name}_SERVICE_KEYS`]!) as { keys: ServiceKey[] }).keys;
    });
    await runJourney({
      publicUrl: (service) => `http://127.0.0.1:${ports.get(service)!.public}`,
      internalUrl: (service) => `http://127.0.0.1:${ports.get(service)!.internal}`,
      operatorKeys: keys.filter(({ kind }) => kind === "operator"),
      pushes: () => readLedger(join(folder, "ledger.jsonl")),
      clock: systemClock,
      print: (line) => void lines.push(line),
    });
    assert.equal(lines.length, 24);
    for (const line of lines) assert.match(line, /^[ 12]\d\. .* ok /);
  }

  test("S-CFG-06 a service that lacks a key to call a peer, or to be called, opens no port", async () => {
    await using occupied = await occupiedPort();
    const ports = { public: occupied.port, internal: 0 };
    const cases: [ServiceDefinition, string, RegExp][] = [
      [
        user,
        "CONCIERGE_USER_SERVICE_KEYS",
        /^user calls auth but .*\nuser calls access but .*\nuser calls organization but .*\nuser takes internal calls/,
      ],
      [greeter, "CONCIERGE_GREETER_SERVICE_KEYS", /^greeter calls auth but has no service key for it: run `concierge/],
    ];
    const foreign = environment.variables.CONCIERGE_NOTIFICATION_SENDER_SERVICE_KEYS!;
    for (const [definition, variable, says] of cases) {
      const own = environment.variables[variable]!;
      environment.variables[variable] = foreign;
      const started = startAlone(definition, ports, () => 1).finally(() => {
        environment.variables[variable] = own;
      });
      await assert.rejects(started, (error) => {
        assert.ok(error instanceof StartupError, String(error));
        assert.equal(error.exitCode, ExitCode.config);
        assert.match(error.message, says);
        return true;
      });
    }
  });
});
