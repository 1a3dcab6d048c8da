/** The secrets of the system in containers: fit for demo mode, each container's own, and kept. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { configurationOf, databaseConfigurationOf } from "../cli/configuration.ts";
import { services } from "../services.ts";
import { initContainerSecrets } from "./container-secrets.ts";

async function made(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-containers-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await initContainerSecrets(folder, services);
  return folder;
}

async function textsIn(folder: string): Promise<Map<string, string>> {
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name));
  return new Map(await Promise.all(paths.map(async (path) => [path, await readFile(path, "utf8")] as const)));
}

test("each service starts in demo mode with its own file, and the databases are those of all", async (t) => {
  const folder = await made(t);
  const environment = (name: string) => ({
    CONCIERGE_MODE: "demo",
    CONCIERGE_CONFIG: join(folder, `${name}.json`),
  });
  for (const definition of services) {
    const { services: values } = configurationOf(environment(definition.name), [definition]);
    assert.deepEqual(Object.keys(values), [definition.name]);
  }
  const named = services.filter(({ hasDatabase }) => hasDatabase);
  const databases = databaseConfigurationOf(environment("databases"), named);
  for (const { name, runtimeUrl } of databases) {
    const own = configurationOf(
      environment(name),
      services.filter((definition) => definition.name === name),
    );
    assert.equal(own.services[name]?.databaseUrl, runtimeUrl);
    assert.equal(own.services[name]?.databaseOwnerUrl, undefined);
  }
});

test("only their owner reads them, and no service has a key that is none of its own", async (t) => {
  const folder = await made(t);
  for (const path of (await textsIn(folder)).keys()) assert.equal((await stat(path)).mode & 0o777, 0o600, path);
  for (const { name } of services) {
    const section = JSON.parse(await readFile(join(folder, `${name}.json`), "utf8"));
    assert.deepEqual(Object.keys(section), [name]);
    const { keys } = section[name].serviceKeys as { keys: { caller: string; callee: string }[] };
    assert.ok(keys.every(({ caller, callee }) => caller === name || callee === name));
    assert.equal("signingKeys" in section[name], name === "auth");
  }
});

test("run again, nothing changes; what was lost is made again, and fits the rest", async (t) => {
  const folder = await made(t);
  const before = await textsIn(folder);
  assert.deepEqual(await initContainerSecrets(folder, services), []);
  assert.deepEqual(await textsIn(folder), before);
  for (const lost of ["user.json", "postgres-url", "redis-url"]) await rm(join(folder, lost));
  assert.deepEqual((await initContainerSecrets(folder, services)).sort(), ["postgres-url", "redis-url", "user.json"]);
  assert.deepEqual(await textsIn(folder), before);
});
