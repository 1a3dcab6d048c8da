import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { type KeyRing, loadConfig, snakeCase } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { ExitCode, reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { type RunningServer, startServer } from "../server.ts";
import type { ServiceDefinition } from "../service.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { organization } from "../services/organization/service.ts";
import { user } from "../services/user/service.ts";
import { services } from "../services.ts";
import { freePort, runHere } from "../testing/command.ts";
import { testEnvironment } from "../testing/environment.ts";
import { userTransport } from "../testing/people.ts";
import { startTestSystem } from "../testing/system.ts";
import { addCaller, initKeys, OPERATOR, readServiceKeys, readTokenKeys } from "./key-folder.ts";
import { createTokenKeys } from "./key-making.ts";
import { changePairKeys, changeTokenKeys, type KeyStep, pairsIn } from "./key-rotation.ts";

const STEPS: KeyStep[] = ["publish", "activate", "retire"];
const PAIR = { caller: "user", callee: "auth" };

async function keysFolder() {
  const folder = await mkdtemp(join(tmpdir(), "concierge-keys-"));
  await initKeys(folder, services, "ES256");
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

/** The names of a pair's keys in a party's file, in their order. */
async function kidsOf(folder: string, party: string, { caller, callee } = PAIR): Promise<string[]> {
  const keys = await readServiceKeys(folder, party);
  return keys.filter((key) => key.caller === caller && key.callee === callee).map(({ kid }) => kid);
}

describe("R-KEY-03 the steps of changing a pair's key", () => {
  test("a key is known to both before it signs, and the old one is known until it is retired", async () => {
    await using keys = await keysFolder();
    const { folder } = keys;
    const [old] = await kidsOf(folder, "user");
    const others = async () => (await readServiceKeys(folder, "auth")).filter(({ caller }) => caller !== "user");
    const before = await others();

    await changePairKeys(folder, "publish", [PAIR]);
    const [first, made, ...more] = await kidsOf(folder, "user");
    assert.deepEqual([first, more], [old, []]);
    assert.notEqual(made, old);
    assert.deepEqual(await kidsOf(folder, "auth"), [old, made]);
    await changePairKeys(folder, "activate", [PAIR]);
    for (const party of ["user", "auth"]) assert.deepEqual(await kidsOf(folder, party), [made, old]);
    await changePairKeys(folder, "retire", [PAIR]);
    for (const party of ["user", "auth"]) assert.deepEqual(await kidsOf(folder, party), [made]);
    assert.deepEqual(await others(), before, "no other pair has changed");
  });

  test("a step that is taken twice changes nothing the second time", async () => {
    await using keys = await keysFolder();
    const { folder } = keys;
    for (const step of [...STEPS, ...STEPS]) {
      await changePairKeys(folder, step, [PAIR]);
      const once = [await readServiceKeys(folder, "user"), await readServiceKeys(folder, "auth")];
      await changePairKeys(folder, step, [PAIR]);
      assert.deepEqual([await readServiceKeys(folder, "user"), await readServiceKeys(folder, "auth")], once, step);
    }
  });

  test("a rotation that begins before the last one was retired goes on to a newer key, never back", async () => {
    await using keys = await keysFolder();
    const { folder } = keys;
    const [old] = await kidsOf(folder, "user");
    for (const step of ["publish", "activate", "publish", "activate"] as const) {
      await changePairKeys(folder, step, [PAIR]);
      if (step === "activate") assert.notEqual((await kidsOf(folder, "user"))[0], old);
    }
    assert.equal((await kidsOf(folder, "user")).length, 3);
  });

  test("a run that breaks off after the callee's file lets nobody sign with what the callee may not know", async () => {
    await using keys = await keysFolder();
    const { folder } = keys;
    for (const step of STEPS) {
      const known = await kidsOf(folder, "auth");
      await mkdir(join(folder, "user.json.new"));
      await assert.rejects(changePairKeys(folder, step, [PAIR]));
      await rm(join(folder, "user.json.new"), { recursive: true });
      const [signing] = await kidsOf(folder, "user");
      assert.ok(known.includes(signing!), `${step}: a callee that was not restarted`);
      assert.ok((await kidsOf(folder, "auth")).includes(signing!) || step === "retire", `${step}: one that was`);
      await changePairKeys(folder, step, [PAIR]);
      assert.deepEqual(await kidsOf(folder, "user"), await kidsOf(folder, "auth"), `${step} taken again`);
    }
    assert.equal((await kidsOf(folder, "user")).length, 1);
  });

  test("the operator's keys and those of foreign callers are changed, too, and keep their kind", async () => {
    await using keys = await keysFolder();
    const { folder } = keys;
    await addCaller(folder, "shop", "access");
    // Its file was handed over.
    await rm(join(folder, "shop.json"));
    const pairs = await pairsIn(folder, ({ caller }) => caller === "shop" || caller === OPERATOR);
    assert.ok(pairs.some(({ caller, callee }) => caller === OPERATOR && callee === "auth"));
    const shop = { caller: "shop", callee: "access" };
    assert.ok(pairs.some(({ caller }) => caller === "shop"));
    await changePairKeys(folder, "publish", pairs);
    assert.equal((await kidsOf(folder, "shop", shop)).length, 2);
    const kinds = (await readServiceKeys(folder, "shop")).map(({ kind }) => kind);
    assert.deepEqual(kinds, ["backend", "backend"]);
  });
});

test("the keys that tokens are derived with are changed in the same steps", async () => {
  await using keys = await keysFolder();
  const { folder } = keys;
  const [old] = (await readTokenKeys(folder)).keys;
  const [, made] = await changeTokenKeys(folder, "publish");
  assert.deepEqual(await changeTokenKeys(folder, "publish"), [old!.kid, made]);
  assert.deepEqual(await changeTokenKeys(folder, "activate"), [made, old!.kid]);
  assert.deepEqual(await changeTokenKeys(folder, "activate"), [made, old!.kid]);
  assert.deepEqual(await changeTokenKeys(folder, "retire"), [made]);
});

test("R-KEY-03 sessions go on at processes that are at different steps of changing the keys of tokens", async () => {
  const ring = (...keys: KeyRing["keys"]) => ({ CONCIERGE_AUTH_TOKEN_KEYS: JSON.stringify({ keys }) });
  const [old, made] = [createTokenKeys().keys[0]!, createTokenKeys().keys[0]!];
  const definitions = [auth, user];
  await using system = await startTestSystem({ definitions, variables: ring(old, made) });
  await using active = await system.startReplica(ring(made, old));
  await using retired = await system.startReplica(ring(made));
  await Promise.all([active.ready, retired.ready]);
  const [published, activated, last] = [system.server, active, retired].map(({ publicUrl }) =>
    createClient(AuthService, userTransport(publicUrl)),
  );
  const { refreshToken: first } = await system.newUser();
  const once = { refreshToken: first, idempotencyKey: crypto.randomUUID() };
  const { refreshToken: second } = await published!.refreshToken(once);
  assert.equal((await activated!.refreshToken(once)).refreshToken, second, "derived with the old key");
  const twice = { refreshToken: second, idempotencyKey: crypto.randomUUID() };
  const { refreshToken: third } = await activated!.refreshToken(twice);
  assert.equal((await published!.refreshToken(twice)).refreshToken, third, "derived with the new one");
  assert.equal((await last!.refreshToken(twice)).refreshToken, third, "the old one is gone");
  await last!.refreshToken({ refreshToken: third, idempotencyKey: crypto.randomUUID() });
});

describe("concierge keys rotate-pairs", () => {
  test("says whom to restart, and no part of a secret", async () => {
    await using keys = await keysFolder();
    const { folder } = keys;
    const rotate = (...args: string[]) => runHere(["keys", "rotate-pairs", ...args, "--keys", folder]);
    const all = await rotate("publish");
    assert.match(
      all.stdout,
      /^publish: \d\d pairs\nnext: restart access, auth, notification, organization, user, in any/,
    );
    const one = await rotate("activate", "--pair", "user:auth");
    assert.equal(
      one.stdout,
      "activate: 1 pair\nnext: restart user, in any order; when all processes are new, retire the old one\n",
    );
    assert.match((await rotate("retire", "--of", "greeter")).stdout, /next: restart .*auth.*: what the old keys sign/);
    const secrets = (await readServiceKeys(folder, "auth")).map(({ secret }) => secret);
    assert.ok(!secrets.some((secret) => `${all.stdout}${one.stdout}`.includes(secret.slice(0, 12))));
  });

  test("refuses a pair and a party that have no key", async () => {
    await using keys = await keysFolder();
    for (const wrong of [
      ["--pair", "auth:greeter"],
      ["--of", "nobody"],
    ]) {
      const { code, stderr } = await runHere(["keys", "rotate-pairs", "publish", ...wrong, "--keys", keys.folder]);
      assert.equal(code, ExitCode.usage);
      assert.match(stderr, /holds no key of (auth:greeter|nobody)$/m);
    }
  });
});

describe("R-KEY-03 a pair's key is changed while services run that are restarted in any order", () => {
  for (const order of [
    [access, organization],
    [organization, access],
  ]) {
    test(`${order.map(({ name }) => name).join(" first, then ")}: no internal call fails`, async () => {
      await using keys = await keysFolder();
      await using system = await startSystem(keys.folder);
      const { folder } = keys;
      assert.equal(await system.ask(), "ORGANIZATION_NOT_FOUND");
      const [old] = await kidsOf(folder, "access", { caller: "access", callee: "organization" });
      for (const step of STEPS) {
        const pairs = ["access:organization", "operator:access"];
        assert.equal((await runHere(["keys", "rotate-pairs", step, "--keys", folder, "--pair", ...pairs])).code, 0);
        assert.equal(await system.ask(), "ORGANIZATION_NOT_FOUND", `${step}, nobody restarted`);
        for (const definition of order) {
          await system.restart(definition);
          assert.equal(await system.ask(), "ORGANIZATION_NOT_FOUND", `${step}, ${definition.name} restarted`);
        }
      }
      assert.notEqual((await kidsOf(folder, "access", { caller: "access", callee: "organization" }))[0], old);
    });
  }
});

/** access and organization each by itself, and those whom they need, with the keys of a folder as it is when each starts. */
async function startSystem(folder: string) {
  await using opened = new AsyncDisposableStack();
  const definitions = [auth, user, access, organization];
  const environment = opened.use(await testEnvironment(definitions));
  const processes = [[auth, user], [access], [organization]];
  const ports = new Map<string, number>();
  for (const process of processes) {
    const port = await freePort();
    for (const { name } of process) ports.set(name, port);
  }
  const peers = definitions.flatMap(({ name, peers }) =>
    Object.keys(peers).map((peer) => [`CONCIERGE_${snakeCase(name)}_${snakeCase(peer)}_URL`, urlOf(peer)] as const),
  );
  function urlOf(name: string): string {
    return `http://127.0.0.1:${ports.get(name)}`;
  }
  const start = async (process: ServiceDefinition[]) => {
    const rings = process.map(async ({ name }) => {
      return [
        `CONCIERGE_${snakeCase(name)}_SERVICE_KEYS`,
        JSON.stringify({ keys: await readServiceKeys(folder, name) }),
      ];
    });
    const variables = {
      ...environment.variables,
      ...Object.fromEntries([...peers, ...(await Promise.all(rings))]),
      CONCIERGE_MODE: "development",
      CONCIERGE_DRAIN_SECONDS: "0",
      CONCIERGE_PUBLIC_PORT: "0",
      CONCIERGE_INTERNAL_PORT: String(ports.get(process[0]!.name)),
    };
    return startServices(process, variables);
  };
  const running = new Map<string, RunningServer>();
  opened.defer(async () => {
    for (const server of running.values()) await server[Symbol.asyncDispose]();
  });
  for (const process of processes) running.set(process[0]!.name, await start(process));
  await Promise.all([...running.values()].map(({ ready }) => ready));
  const resources = opened.move();
  return {
    /** The reason of an answer that access has from organization. */
    async ask() {
      const key = (await readServiceKeys(folder, OPERATOR)).find(({ callee }) => callee === "access")!;
      using connection = connectService({ baseUrl: urlOf("access"), key, clock: systemClock });
      const question = {
        userId: crypto.randomUUID(),
        organizationId: crypto.randomUUID(),
        permission: "members:invite",
      };
      const answer = connection.client(AccessInternalService).checkPermission(question);
      return await answer.then(() => "an answer", reasonOf);
    },
    async restart(definition: ServiceDefinition) {
      await running.get(definition.name)![Symbol.asyncDispose]();
      const server = await start([definition]);
      running.set(definition.name, server);
      await server.ready;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function startServices(definitions: ServiceDefinition[], env: Record<string, string>): Promise<RunningServer> {
  const configuration = loadConfig({
    env,
    readFile: () => "",
    stat: () => ({ mode: 0o600 }),
    services: Object.fromEntries(services.map(({ name, config }) => [name, config])),
    start: definitions.map(({ name }) => name),
  });
  const log = createLogger({ level: "fatal", mode: "development", clock: systemClock });
  return startServer({ ...configuration, definitions, migrationsFolder: MIGRATIONS_FOLDER, clock: systemClock, log });
}
