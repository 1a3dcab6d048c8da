/**
 * A local cluster without Kubernetes: the processes of its pods, with the commands, variables and secrets of its manifests. Only
 * where the others are is different: on this machine, each on a port of its own.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { services } from "../../src/services.ts";
import { startTestCluster } from "../../src/testing/cluster.ts";
import { freePort, runCommand, startCommand } from "../../src/testing/command.ts";
import { until } from "../../src/testing/until.ts";
import { askAsKubelet, enter, makeInstallation, temporaryFolder } from "./installation.ts";
import { Manifests, type Workload } from "./manifests.ts";

const READY_WITHIN_MS = 60_000;

test("R-DEP-11 the Job makes the databases, and every service becomes ready over TLS, the last one first", async () => {
  await using folder = await temporaryFolder();
  await makeInstallation(folder.path);
  const manifests = new Manifests(join(folder.path, "overlays/local"));
  await using cluster = await startTestCluster();
  const ports = new Map<string, number>();
  for (const { name } of services) ports.set(name, await freePort());
  const here = (text: string) =>
    text
      .replaceAll("@postgres:5432", `@${new URL(cluster.adminUrl).host}`)
      .replace(/^https:\/\/([a-z-]+):50051$/, (_, name: string) => `https://127.0.0.1:${ports.get(name)}`);

  const job = manifests.find<Workload>("Job", "migrate")!.spec.template.spec;
  const admin = join(folder.path, "admin");
  await writeFile(admin, cluster.adminUrl, { mode: 0o600 });
  for (const container of [...job.initContainers!, ...job.containers]) {
    const env = await enter(join(folder.path, container.name), manifests, job, container, {}, here);
    const words = container.args.map((word) => (word === "/run/secrets/postgres/url" ? admin : word));
    const { code, stderr } = await runCommand(words, env);
    assert.equal(code, 0, stderr);
  }

  await using running = new AsyncDisposableStack();
  for (const { name } of services.toReversed()) {
    const pod = manifests.find<Workload>("Deployment", name)!.spec.template.spec;
    const [container] = pod.containers;
    const env = await enter(join(folder.path, "pods", name), manifests, pod, container!, {}, here);
    const own = { CONCIERGE_HOST: "127.0.0.1", CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_AUTH_REST_PORT: "0" };
    const command = startCommand(container!.args, { ...env, ...own, CONCIERGE_INTERNAL_PORT: `${ports.get(name)}` });
    running.use(command);
    await command.printed(/"listening"/);
  }
  for (const { name } of services) {
    await until(
      `${name} to be ready`,
      async () => (await askAsKubelet(`https://127.0.0.1:${ports.get(name)}/readyz`)) === 200,
      READY_WITHIN_MS,
    );
  }
});
