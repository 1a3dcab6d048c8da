/**
 * What is in deploy/kubernetes, as `kubectl apply -k` would send it: built by kustomize from a copy with secrets of the test's own,
 * and checked by kubectl-validate against the schemas of Kubernetes.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseAllDocuments } from "yaml";

const TOOLS = resolve(import.meta.dirname, "../../.concierge/tools");

export type Labels = Record<string, string>;

export interface Manifest<Spec = unknown> {
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Labels };
  spec: Spec;
  /** Of a ConfigMap; of a Secret in base64. */
  data?: Record<string, string>;
}

/** Of a Deployment or a Job. */
export interface Workload {
  replicas?: number;
  selector: { matchLabels: Labels };
  template: { metadata: { labels: Labels }; spec: Pod };
}

export interface Pod {
  serviceAccountName: string;
  automountServiceAccountToken?: boolean;
  enableServiceLinks?: boolean;
  terminationGracePeriodSeconds: number;
  securityContext: Record<string, unknown>;
  initContainers?: Container[];
  containers: Container[];
  volumes: { name: string; secret?: { secretName: string; defaultMode?: number } }[];
}

export interface Container {
  name: string;
  image: string;
  args: string[];
  env?: { name: string; value?: string }[];
  envFrom?: { configMapRef: { name: string } }[];
  ports?: { name: string; containerPort: number }[];
  volumeMounts: { name: string; mountPath: string; readOnly?: boolean }[];
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  securityContext: Record<string, unknown>;
  lifecycle: { preStop: { sleep: { seconds: number } } };
  startupProbe: Probe;
  livenessProbe: Probe;
  readinessProbe: Probe;
}

interface Probe {
  httpGet: { path: string; port: string; scheme: string };
}

/** The manifests of one folder. Throws with kustomize's words. */
export class Manifests {
  readonly text: string;
  readonly all: Manifest[];

  constructor(folder: string) {
    this.text = execFileSync(join(TOOLS, "kustomize"), ["build", folder], { encoding: "utf8" });
    this.all = parseAllDocuments(this.text).map((document) => document.toJS() as Manifest);
  }

  of<Spec>(kind: string): Manifest<Spec>[] {
    return this.all.filter((manifest) => manifest.kind === kind) as Manifest<Spec>[];
  }

  /** The one of this kind and name; undefined if there is none. */
  find<Spec>(kind: string, name: string): Manifest<Spec> | undefined {
    return this.of<Spec>(kind).find(({ metadata }) => metadata.name === name);
  }
}

const KUBERNETES = "1.30";
/** Base64 in lines, as kustomize writes it; Kubernetes takes it, its validator does not. */
const FOLDED = /: \|\n((?: {4}[A-Za-z0-9+/=]+\n)+)/g;

/** What Kubernetes would say of these manifests: nothing, if they are valid. They are written to `file`. */
export async function complaintsOf(text: string, file: string): Promise<string> {
  await writeFile(
    file,
    text.replace(FOLDED, (_, lines: string) => `: ${lines.replace(/\s/g, "")}\n`),
  );
  const { status, stdout, stderr } = spawnSync(join(TOOLS, "kubectl-validate"), ["--version", KUBERNETES, file], {
    encoding: "utf8",
  });
  return status === 0 ? "" : `${stdout}${stderr}`;
}
