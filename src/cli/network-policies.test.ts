/** The printed policies, read as Kubernetes reads them: who gets a connection is who has a key, and nobody else. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { services } from "../services.ts";
import { runHere } from "../testing/command.ts";
import { pairsOf } from "../token/key-making.ts";

type Labels = Record<string, string>;

interface Selector {
  matchLabels?: Labels;
}

interface Side {
  ipBlock?: { cidr: string };
  podSelector?: Selector;
  namespaceSelector?: Selector;
}

interface Rule {
  from?: Side[];
  to?: Side[];
  ports: { port: number; protocol: string }[];
}

interface Policy {
  metadata: { name: string };
  spec: { podSelector: Selector; policyTypes: string[]; ingress?: Rule[]; egress?: Rule[] };
}

interface Pod {
  labels: Labels;
  /** Of its namespace; undefined for that of the services. */
  namespace?: Labels;
}

const PUBLIC = 8080;
const INTERNAL = 50_051;
const REST = 8001;
const NAMES = services.map(({ name }) => name);

let policies: Policy[];

before(async () => {
  const { code, stdout } = await runHere(["network-policies"]);
  assert.equal(code, 0);
  policies = parseAllDocuments(stdout).map((document) => document.toJS() as Policy);
});

function podOf(name: string): Pod {
  return { labels: { "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "concierge" } };
}

function matches({ matchLabels = {} }: Selector, labels: Labels): boolean {
  return Object.entries(matchLabels).every(([key, value]) => labels[key] === value);
}

/** Whether one side of a rule means this pod; without a selector of namespaces it means those of the services' own. */
function means({ ipBlock, podSelector, namespaceSelector }: Side, { labels, namespace }: Pod): boolean {
  if (ipBlock) return false;
  const isThere = namespaceSelector ? matches(namespaceSelector, namespace ?? {}) : namespace === undefined;
  return isThere && matches(podSelector ?? {}, labels);
}

/** Whether the policies of `pod` let it take or open a connection. A pod without any may do what it wants. */
function lets(pod: Pod, direction: "ingress" | "egress", other: Pod | "elsewhere", port: number): boolean {
  const own = policies.filter(({ spec }) => pod.namespace === undefined && matches(spec.podSelector, pod.labels));
  if (own.length === 0) return true;
  const rules = own.flatMap(({ spec }) => spec[direction] ?? []);
  return rules.some(({ from, to, ports }) => {
    const sides = from ?? to;
    const isMeant = sides ? other !== "elsewhere" && sides.some((side) => means(side, other)) : true;
    return isMeant && ports.some((each) => each.port === port && each.protocol === "TCP");
  });
}

function connects(from: Pod, to: Pod, port: number): boolean {
  return lets(from, "egress", to, port) && lets(to, "ingress", from, port);
}

/** The services that a pod gets a connection to. */
function reachedBy(pod: Pod, port: number): string[] {
  return NAMES.filter((name) => connects(pod, podOf(name), port));
}

test("a service reaches the internal port of those that it has a key for, and of no other", () => {
  for (const caller of [...NAMES, "migrate", "stranger"]) {
    const pairs = pairsOf(services).filter((pair) => pair.caller === caller);
    const callees = pairs.map(({ callee }) => callee);
    assert.deepEqual(reachedBy(podOf(caller), INTERNAL).sort(), callees.sort(), caller);
    assert.deepEqual(reachedBy(podOf(caller), PUBLIC), [], caller);
    assert.deepEqual(reachedBy(podOf(caller), REST), [], caller);
  }
});

test("neither end alone makes a connection: the caller may open it, and the callee may take it", () => {
  const [user, notification] = [podOf("user"), podOf("notification")];
  assert.equal(lets(user, "egress", notification, INTERNAL), false);
  assert.equal(lets(notification, "ingress", user, INTERNAL), false);
});

test("the ingress reaches public APIs, Prometheus what has metrics, and nothing else does from outside", () => {
  const ingress = { labels: {}, namespace: { "concierge/ingress": "true" } };
  const withPublicApi = NAMES.filter((name) => name !== "notification-sender");
  assert.deepEqual(reachedBy(ingress, PUBLIC), withPublicApi);
  assert.deepEqual(reachedBy(ingress, INTERNAL), []);
  const monitoring = { labels: {}, namespace: { "concierge/monitoring": "true" } };
  assert.deepEqual(reachedBy(monitoring, INTERNAL), NAMES);
  assert.deepEqual(reachedBy(monitoring, PUBLIC), []);
  const stranger = { labels: { "app.kubernetes.io/name": "access" }, namespace: { name: "shop" } };
  for (const port of [PUBLIC, INTERNAL, REST]) assert.deepEqual(reachedBy(stranger, port), []);
});

test("a backend reaches those that its pods say they call", () => {
  const backend = { labels: { "concierge/calls-auth": "true" }, namespace: { name: "shop" } };
  assert.deepEqual(reachedBy(backend, INTERNAL), ["auth"]);
  assert.deepEqual(reachedBy(backend, REST), ["auth"]);
  const toAll = Object.fromEntries(NAMES.map((name) => [`concierge/calls-${name}`, "true"]));
  const withInternalApi = NAMES.filter((name) => pairsOf(services).some(({ callee }) => callee === name));
  assert.deepEqual(reachedBy({ labels: toAll, namespace: {} }, INTERNAL), withInternalApi);
});

test("out of the cluster go only those that have a reason", () => {
  const goOut = (port: number) =>
    [...NAMES, "migrate"].filter((name) => lets(podOf(name), "egress", "elsewhere", port));
  const stored = NAMES.filter((name) => !["greeter", "notification-sender"].includes(name));
  assert.deepEqual(goOut(5432), [...stored, "migrate"]);
  assert.deepEqual(goOut(9093), stored);
  assert.deepEqual(goOut(6379), NAMES);
  assert.deepEqual(goOut(465), ["auth"]);
  assert.deepEqual(goOut(443), ["notification-sender"]);
  for (const port of [22, 80, PUBLIC, INTERNAL]) assert.deepEqual(goOut(port), []);
});

test("every pod is under a policy of both directions, one that nobody has thought of, too", () => {
  for (const { spec } of policies) assert.deepEqual(spec.policyTypes, ["Ingress", "Egress"]);
  assert.equal(lets(podOf("stranger"), "egress", podOf("auth"), INTERNAL), false);
  assert.equal(lets(podOf("stranger"), "egress", "elsewhere", 443), false);
});
