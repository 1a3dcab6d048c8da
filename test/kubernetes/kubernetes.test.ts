/** The manifests of deploy/kubernetes, as an installation would apply them: valid, and fit to start what we have. */
import assert from "node:assert/strict";
import { mkdtemp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { configurationOf, databaseConfigurationOf, servicesWithDatabase } from "../../src/cli/configuration.ts";
import { missingKeys } from "../../src/peers.ts";
import { sideOf } from "../../src/rpc/access.ts";
import { services } from "../../src/services.ts";
import { createTestCertificates } from "../../src/testing/certificates.ts";
import { startCommand } from "../../src/testing/command.ts";
import {
  askAsKubelet,
  DEPLOY,
  enter,
  environmentOf,
  imageEnvironment,
  makeInstallation,
  temporaryFolder,
} from "./installation.ts";
import { complaintsOf, Manifests, type Workload } from "./manifests.ts";

const OVERLAYS = ["production", "production/migrate", "local"];

const opened = new AsyncDisposableStack();
const built = new Map<string, Manifests>();
let folder: string;
/** As cert-manager puts them into a Secret. */
let certificates: Record<string, string>;

before(async () => {
  folder = opened.use(await temporaryFolder()).path;
  await makeInstallation(folder);
  certificates = await makeCertificates();
  for (const overlay of OVERLAYS) built.set(overlay, new Manifests(join(folder, "overlays", overlay)));
});

after(() => opened.disposeAsync());

function production(): Manifests {
  return built.get("production")!;
}

function local(): Manifests {
  return built.get("local")!;
}

async function makeCertificates() {
  const { ca, good } = await createTestCertificates();
  return { "tls.crt": good.certificate, "tls.key": good.key, "ca.crt": ca };
}

/** Every pod there is, with the overlay that it is in. */
function workloads() {
  return [...built].flatMap(([overlay, manifests]) =>
    ["Deployment", "Job"].flatMap((kind) =>
      manifests.of<Workload>(kind).map(({ metadata, spec }) => ({ overlay, manifests, name: metadata.name, spec })),
    ),
  );
}

for (const overlay of OVERLAYS) {
  test(`${overlay} is valid for Kubernetes`, async () => {
    const { text } = built.get(overlay)!;
    const file = join(folder, "built.yaml");
    assert.equal(await complaintsOf(text, file), "");
    const wrong = text.replace("readOnlyRootFilesystem", "readOnlyRoot");
    assert.match(await complaintsOf(wrong, file), /readOnlyRoot: Invalid value: value provided for unknown field/);
  });
}

test("each service has a Deployment, and what belongs to it", () => {
  const names = services.map(({ name }) => name).sort();
  for (const kind of ["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler"]) {
    const found = production().of(kind);
    assert.deepEqual(found.map(({ metadata }) => metadata.name).sort(), names, kind);
    assert.ok(found.every(({ metadata }) => metadata.namespace === "concierge"));
  }
  for (const { name } of services) {
    const { spec } = production().find<Workload>("Deployment", name)!;
    assert.deepEqual(spec.template.spec.containers[0]!.args, ["serve", name]);
    assert.equal(spec.template.spec.serviceAccountName, name);
    const { labels } = spec.template.metadata;
    const service = production().find<{ selector: object }>("Service", name)!.spec.selector;
    const budget = production().find<{ selector: { matchLabels: object } }>("PodDisruptionBudget", name)!.spec.selector;
    for (const selector of [spec.selector.matchLabels, service, budget.matchLabels]) {
      assert.deepEqual({ ...labels, ...selector }, labels);
      assert.deepEqual(selector, { "app.kubernetes.io/name": name });
    }
  }
});

test("autoscalers keep at least two processes of each service, and no Deployment sets another number", () => {
  for (const { name } of services) {
    const { spec } = production().find<{ minReplicas: number; scaleTargetRef: object }>(
      "HorizontalPodAutoscaler",
      name,
    )!;
    assert.ok(spec.minReplicas >= 2);
    assert.deepEqual(spec.scaleTargetRef, { apiVersion: "apps/v1", kind: "Deployment", name });
    assert.equal(production().find<Workload>("Deployment", name)!.spec.replicas, undefined);
  }
});

test("Services and policies lead to the ports that the image listens on, and peers to Services", async () => {
  const { CONCIERGE_PUBLIC_PORT, CONCIERGE_INTERNAL_PORT } = await imageEnvironment();
  for (const { name, peers, config } of services) {
    const { containers } = production().find<Workload>("Deployment", name)!.spec.template.spec;
    const ports = new Map(containers[0]!.ports!.map((port) => [port.name, port.containerPort]));
    assert.equal(ports.get("public"), Number(CONCIERGE_PUBLIC_PORT));
    assert.equal(ports.get("internal"), Number(CONCIERGE_INTERNAL_PORT));
    assert.equal(ports.get("rest"), "restPort" in config ? 8001 : undefined);
    const service = production().find<{ ports: { port: number; targetPort: string }[] }>("Service", name)!.spec;
    for (const { port, targetPort } of service.ports) assert.equal(ports.get(targetPort), port, name);
    const policy = production().find<{ ingress: { ports: { port: number }[] }[] }>("NetworkPolicy", name)!.spec;
    const open = policy.ingress.flatMap((rule) => rule.ports.map(({ port }) => port));
    for (const port of open) assert.ok([...ports.values()].includes(port), `${name} ${port}`);
    const env = await environmentOf(production(), containers[0]!);
    for (const peer of Object.keys(peers)) {
      const variable = `CONCIERGE_${name.toUpperCase().replaceAll("-", "_")}_${peer.toUpperCase()}_URL`;
      assert.equal(env[variable], `https://${peer}:${CONCIERGE_INTERNAL_PORT}`);
      assert.ok(production().find("Service", peer));
    }
  }
});

interface IngressPath {
  path: string;
  backend: { service: { name: string; port: { name: string } } };
}

test("the ingress leads every public API, and no internal one, to its service, under the issuer's name", async () => {
  const [ingress, ...others] = production().of<{ rules: { host: string; http: { paths: IngressPath[] } }[] }>(
    "Ingress",
  );
  const [rule] = ingress!.spec.rules;
  const found = rule!.http.paths.map(({ path, backend }) => [path, backend.service.name, backend.service.port.name]);
  const apis = services.flatMap(({ name, services: descs }) => descs.map((desc) => ({ name, desc })));
  const wanted = apis
    .filter(({ desc }) => sideOf(desc) === "public")
    .map(({ name, desc }) => [`/${desc.typeName}`, name]);
  assert.deepEqual(
    found,
    [["/.well-known/jwks.json", "auth"], ...wanted].map((path) => [...path, "public"]),
  );
  const { platform } = configurationOf(await environmentInside("auth"), []);
  assert.equal(platform.issuer, `https://${rule!.host}`);
  assert.deepEqual(others, []);
});

test("S-CFG-01 S-CFG-03 every service starts in production mode with exactly its settings and secrets, without a risk", async () => {
  for (const definition of services) {
    const env = await environmentInside(definition.name);
    const { platform, services: values, acceptedRisks } = configurationOf(env, [definition]);
    assert.equal(platform.mode, "production");
    assert.deepEqual(acceptedRisks, []);
    assert.deepEqual(missingKeys(definition, values[definition.name]!), []);
    assert.equal(platform.cleartext, "refuse");
    if (definition.events) assert.ok(platform.kafkaBrokers?.tls && platform.kafkaUsername && platform.kafkaPassword);
    const { spec } = production().find<Workload>("Deployment", definition.name)!;
    const { terminationGracePeriodSeconds, containers } = spec.template.spec;
    const toldLateSeconds = containers[0]!.lifecycle.preStop.sleep.seconds;
    assert.ok(terminationGracePeriodSeconds > toldLateSeconds + platform.drainSeconds);
  }
});

test("a local cluster runs in demo mode, with everything that it needs inside, and once", async () => {
  for (const definition of services) {
    const env = await environmentInside(definition.name, local());
    const { platform, services: values, acceptedRisks } = configurationOf(env, [definition]);
    assert.equal(platform.mode, "demo");
    assert.deepEqual(acceptedRisks, []);
    assert.deepEqual(missingKeys(definition, values[definition.name]!), []);
    for (const url of [values[definition.name]!.databaseUrl, values[definition.name]!.pushEndpoint]) {
      if (url) assert.ok(local().find("Service", new URL(String(url)).hostname));
    }
  }
  for (const kind of ["HorizontalPodAutoscaler", "PodDisruptionBudget"]) assert.deepEqual(local().of(kind), []);
});

test("S-CFG-01 the example secrets are refused as they are, each by its name", async () => {
  await using example = await temporaryFolder();
  await makeInstallation(example.path, () => "<password>");
  const manifests = new Manifests(join(example.path, "overlays/production"));
  for (const definition of services) {
    const env = await environmentInside(definition.name, manifests);
    const pattern = definition.hasDatabase ? /_DATABASE_URL: password is/ : /CONCIERGE_REDIS_URL/;
    assert.throws(() => configurationOf(env, [definition]), pattern, definition.name);
  }
});

for (const overlay of ["production/migrate", "local"]) {
  test(`${overlay} migrates every database, as its owner, in a Job that has no other secret`, async () => {
    const manifests = built.get(overlay)!;
    const pod = manifests.find<Workload>("Job", "migrate")!.spec.template.spec;
    assert.deepEqual(
      pod.containers.map(({ args }) => args),
      [["migrate"]],
    );
    const env = await enter(await mkdtemp(join(folder, "migrate-")), manifests, pod, pod.containers[0]!);
    const databases = databaseConfigurationOf(env, servicesWithDatabase([]));
    for (const { name, ownerUrl, runtimeUrl } of databases) {
      assert.equal(new URL(ownerUrl).username, `${name}_owner`);
      assert.equal(new URL(runtimeUrl).username, name);
    }
    assert.equal(databases.length, services.filter(({ hasDatabase }) => hasDatabase).length);
    assert.throws(() => configurationOf(env, services), /SERVICE_KEYS is missing/);
  });
}

test("no service has a secret of the Job", () => {
  for (const manifests of [production(), local()]) {
    for (const { spec } of manifests.of<Workload>("Deployment")) {
      const mounted = spec.template.spec.volumes.map(({ secret }) => secret?.secretName ?? "");
      assert.ok(!mounted.some((name) => name.startsWith("databases")));
    }
  }
});

for (const { name } of services) {
  test(`R-DEP-11 ${name} waits for what is not there yet, alive by its probes and not ready, and ends when it is told`, async () => {
    const env = await environmentInside(name);
    const ports = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0", CONCIERGE_HOST: "127.0.0.1" };
    await using command = startCommand(["serve", name], { ...env, ...ports });
    const [, host] = await command.printed(/"internalUrl":"https:\/\/([^"]+)"/);
    const [container] = production().find<Workload>("Deployment", name)!.spec.template.spec.containers;
    const { startupProbe, livenessProbe, readinessProbe } = container!;
    for (const [probe, status] of [
      [startupProbe, 200],
      [livenessProbe, 200],
      [readinessProbe, 503],
    ] as const) {
      const { path, port, scheme } = probe.httpGet;
      assert.deepEqual([port, scheme], ["internal", "HTTPS"]);
      assert.equal(await askAsKubelet(`https://${host}${path}`), status, path);
    }
    command.kill("SIGTERM");
    assert.equal((await command.ended()).code, 0);
  });
}

async function environmentInside(service: string, manifests = production()) {
  const pod = manifests.find<Workload>("Deployment", service)!.spec.template.spec;
  const root = await mkdtemp(join(folder, `${service}-`));
  return enter(root, manifests, pod, pod.containers[0]!, certificates);
}

test("S-INJ-11 no pod has power, a writable root, Kubernetes' token, or a secret that others may read", () => {
  const found = workloads();
  assert.equal(found.length, 2 * (services.length + 1) + ["postgres", "push-stand-in"].length);
  for (const { name, spec } of found) {
    const pod = spec.template.spec;
    assert.equal(pod.automountServiceAccountToken, false);
    // C29: the variables that Kubernetes would make of Services are unknown ones of ours.
    assert.equal(pod.enableServiceLinks, false);
    assert.equal(pod.securityContext.runAsNonRoot, true);
    assert.deepEqual(pod.securityContext.seccompProfile, { type: "RuntimeDefault" });
    for (const { secret } of pod.volumes) {
      if (!secret) continue;
      assert.equal(secret.defaultMode, 0o440, name);
      assert.equal(pod.securityContext.fsGroup, pod.securityContext.runAsGroup);
    }
    for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
      assert.deepEqual(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
      assert.ok(container.resources.requests.cpu && container.resources.limits.memory);
    }
  }
});

test("S-INJ-11 no secret is in an environment, a command line or a ConfigMap", async () => {
  for (const { manifests, spec } of workloads()) {
    const data = manifests.of("Secret").flatMap((secret) => Object.values(secret.data ?? {}));
    const texts = data.map((text) => Buffer.from(text, "base64").toString());
    const secrets = texts.flatMap((text) => [...text.matchAll(/[A-Za-z0-9_-]{32,}/g)].map(([found]) => found));
    assert.ok(secrets.length > 5);
    for (const container of spec.template.spec.containers) {
      const shown = JSON.stringify([container, await environmentOf(manifests, container)]);
      for (const secret of secrets) assert.ok(!shown.includes(secret));
    }
  }
});

test("images are those of this release", async () => {
  const released = workloads().filter(({ overlay }) => overlay.startsWith("production"));
  const images = new Set(released.flatMap(({ spec }) => spec.template.spec.containers.map(({ image }) => image)));
  const { version } = JSON.parse(await readFile(join(DEPLOY, "../package.json"), "utf8"));
  assert.deepEqual([...images], [`registry.example.com/concierge:${version}`]);
});
