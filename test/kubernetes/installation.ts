/** An installation's own part of deploy/kubernetes: secrets as the README has one make them, in a copy of the folder. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { makeDevelopmentCertificates } from "../../src/dev/certificates.ts";
import { initContainerSecrets } from "../../src/dev/container-secrets.ts";
import { createServiceAccount } from "../../src/dev/push-stand-in.ts";
import { services } from "../../src/services.ts";
import { initKeys, writeSecret } from "../../src/token/key-folder.ts";
import type { Container, Manifests, Pod } from "./manifests.ts";

const CLONE = resolve(import.meta.dirname, "../..");
export const DEPLOY = join(CLONE, "deploy");
const EXAMPLES = ["production/secrets.example", "production/migrate/secrets.example"];

/** A temporary folder, removed at the end. */
export async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), "concierge-kubernetes-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/**
 * Copies the manifests to a folder, and makes what is secret there: in production after the examples, with `password` for each
 * placeholder, in a local cluster by our commands.
 */
export async function makeInstallation(folder: string, password = strongPassword): Promise<void> {
  const isOurs = (path: string) => basename(path) !== "secrets";
  await cp(join(DEPLOY, "kubernetes"), folder, { recursive: true, filter: isOurs });
  for (const examples of EXAMPLES) {
    const from = join(folder, "overlays", examples);
    const secrets = join(dirname(from), "secrets");
    await mkdir(secrets, { recursive: true });
    for (const file of await readdir(from)) {
      const text = await readFile(join(from, file), "utf8");
      await writeFile(join(secrets, basename(file)), text.replaceAll("<password>", password));
    }
  }
  const secrets = join(folder, "overlays/production/secrets");
  await initKeys(join(secrets, "keys"), services, "ES256");
  await writeSecret(join(secrets, "service-account.json"), await createServiceAccount("shop"));
  const localSecrets = join(folder, "overlays/local/secrets");
  await initContainerSecrets(localSecrets, services);
  await makeDevelopmentCertificates(localSecrets, ["127.0.0.1", ...services.map(({ name }) => name)], systemClock);
}

function strongPassword(): string {
  return randomBytes(24).toString("base64url");
}

/**
 * What a container's process finds: its environment, and the files of its Secrets, written below `root`, to which the variables that
 * name files then point. Secrets that somebody else makes have the files of `foreign`; `here` may change every text.
 */
export async function enter(
  root: string,
  manifests: Manifests,
  pod: Pod,
  container: Container,
  foreign: Record<string, string> = {},
  here = (text: string) => text,
): Promise<Record<string, string>> {
  for (const { name, mountPath } of container.volumeMounts) {
    const secret = pod.volumes.find((volume) => volume.name === name)?.secret;
    if (!secret) continue;
    const data = Object.entries(manifests.find("Secret", secret.secretName)?.data ?? {});
    const own = data.map(([key, text]): [string, string] => [key, Buffer.from(text, "base64").toString()]);
    await mkdir(join(root, mountPath), { recursive: true });
    for (const [key, text] of own.length > 0 ? own : Object.entries(foreign)) {
      const file = join(root, mountPath, key);
      await writeFile(file, here(text));
      await chmod(file, secret.defaultMode ?? 0o644);
    }
  }
  const places = container.volumeMounts.map(({ mountPath }) => mountPath);
  const env = await environmentOf(manifests, container);
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => [
      name,
      places.some((place) => value.startsWith(`${place}/`)) ? join(root, value) : here(value),
    ]),
  );
}

/** Of the image, then of the ConfigMaps, then of the container itself. */
export async function environmentOf(manifests: Manifests, container: Container): Promise<Record<string, string>> {
  const settings = (container.envFrom ?? []).map(({ configMapRef }) => manifests.find("ConfigMap", configMapRef.name)!);
  return {
    ...(await imageEnvironment()),
    ...Object.assign({}, ...settings.map(({ data }) => data)),
    ...Object.fromEntries((container.env ?? []).map(({ name, value }) => [name, value!])),
  };
}

/** The variables that deploy/Dockerfile sets. */
export async function imageEnvironment(): Promise<Record<string, string>> {
  const text = await readFile(join(DEPLOY, "Dockerfile"), "utf8");
  return Object.fromEntries([...text.matchAll(/\b(CONCIERGE_\w+)=(\S+)/g)].map(([, name, value]) => [name!, value!]));
}

/** The status of a probe over HTTPS: like a kubelet it believes any certificate. */
export async function askAsKubelet(url: string): Promise<number | undefined> {
  const [answer] = await once(get(url, { rejectUnauthorized: false, agent: false }), "response");
  answer.resume();
  return answer.statusCode;
}
