/**
 * `concierge network-policies`: who may open a connection to whom in Kubernetes, as NetworkPolicies. Everything is refused but what
 * the contract wants, by the same pairs that get a key for service tokens, and the ways out that a service's variables are for.
 * Written to deploy/kubernetes/base/network-policies.yaml.
 */
import { stringify } from "yaml";
import { sideOf } from "../rpc/access.ts";
import type { ServiceDefinition } from "../service.ts";
import { services } from "../services.ts";
import { calleesOf, pairsOf } from "../token/key-making.ts";
import type { Host } from "./host.ts";

/** Of every container, as deploy/Dockerfile sets them; `rest` is the port of auth's two REST paths. */
const PORTS = { public: 8080, internal: 50_051, rest: 8001 };

const NAME_LABEL = "app.kubernetes.io/name";

interface Peer {
  ipBlock?: { cidr: string };
  podSelector?: { matchLabels?: Record<string, string> };
  namespaceSelector?: { matchLabels?: Record<string, string> };
}

interface Port {
  port: number;
  protocol: "TCP" | "UDP";
}

/** What may come in, or go out; without peers it is from or to anywhere. */
interface Way {
  peers?: Peer[];
  ports: Port[];
}

const dns: Way = {
  peers: [
    { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } } },
    // The cache that many clusters have on each machine.
    { ipBlock: { cidr: "169.254.20.10/32" } },
  ],
  ports: [{ port: 53, protocol: "UDP" }, ...tcp(53)],
};
// Where these are is an installation's own affair; an overlay may narrow them down.
const postgres: Way = { ports: tcp(5432, 6432) };
const redis: Way = { ports: tcp(6379) };
const kafka: Way = { ports: tcp(9092, 9093) };
const mail: Way = { ports: tcp(465, 587) };
const firebase: Way = { ports: tcp(443) };
const traces: Way = { ports: tcp(4318) };

export function printNetworkPolicies(host: Host): void {
  const policies = [
    { ...head("default-deny"), spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] } },
    ...services.map((definition) => policy(definition.name, waysIn(definition), waysOut(definition))),
    policy("migrate", [], [dns, postgres]),
  ];
  const documents = policies.map((each) => stringify(each, { aliasDuplicateObjects: false }));
  host.print(`# Generated from the access options in proto/. Do not edit: \`make gen\`.\n${documents.join("---\n")}`);
}

function head(name: string) {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name } };
}

function policy(name: string, waysIn: Way[], waysOut: Way[]) {
  const ingress = waysIn.map(({ peers, ports }) => ({ from: peers, ports }));
  const egress = waysOut.map(({ peers, ports }) => ({ ...(peers && { to: peers }), ports }));
  return { ...head(name), spec: { podSelector: podsOf(name), policyTypes: ["Ingress", "Egress"], ingress, egress } };
}

function waysIn({ name, services: apis, config }: ServiceDefinition): Way[] {
  const hasPublicApi = apis.some((desc) => sideOf(desc) === "public");
  const takesCalls = calleesOf(services).some((callee) => callee.name === name);
  const callers = pairsOf(services).filter(({ callee }) => callee === name);
  // Operators, and backends of the product, in any namespace: whose pods say so.
  const others: Peer = { namespaceSelector: {}, podSelector: { matchLabels: { [`concierge/calls-${name}`]: "true" } } };
  return [
    ...(hasPublicApi ? [{ peers: [namespaceFor("ingress")], ports: tcp(PORTS.public) }] : []),
    ...(takesCalls
      ? [{ peers: [...callers.map(({ caller }) => podsFor(caller)), others], ports: tcp(PORTS.internal) }]
      : []),
    ...("restPort" in config ? [{ peers: [others], ports: tcp(PORTS.rest) }] : []),
    { peers: [namespaceFor("monitoring")], ports: tcp(PORTS.internal) },
  ];
}

function waysOut({ name, hasDatabase, events, config }: ServiceDefinition): Way[] {
  const callees = pairsOf(services).filter(({ caller }) => caller === name);
  return [
    dns,
    // An empty list would be everybody.
    ...(callees.length > 0
      ? [{ peers: callees.map(({ callee }) => podsFor(callee)), ports: tcp(PORTS.internal) }]
      : []),
    ...(hasDatabase ? [postgres] : []),
    redis,
    ...(events ? [kafka] : []),
    ...("smtpUrl" in config ? [mail] : []),
    ...("firebaseCredentials" in config ? [firebase] : []),
    traces,
  ];
}

function podsOf(name: string) {
  return { matchLabels: { [NAME_LABEL]: name } };
}

/** Pods of the installation's own namespace. */
function podsFor(name: string): Peer {
  return { podSelector: podsOf(name) };
}

/** Namespaces that whoever runs the cluster has labelled so. */
function namespaceFor(purpose: string): Peer {
  return { namespaceSelector: { matchLabels: { [`concierge/${purpose}`]: "true" } } };
}

function tcp(...ports: number[]): Port[] {
  return ports.map((port) => ({ port, protocol: "TCP" }));
}
