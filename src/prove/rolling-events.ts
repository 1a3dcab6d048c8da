/**
 * What operators do to a running cluster, each as the commands say it: rounds of restarts, keys changed in their three steps, and
 * a migration with both versions side by side. After each step the cluster is whole again.
 */
import { cp, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock as clock } from "../clock.ts";
import { services } from "../services.ts";
import { readSigningKeys, writeSigningKeys } from "../token/key-folder.ts";
import { createSigningKeys, pairsOf } from "../token/key-making.ts";
import type { KeyStep } from "../token/key-rotation.ts";
import type { SetKey } from "../token/signing-keys.ts";
import { type Cluster, MAIN_FILE } from "./rolling-cluster.ts";

/** The service whose table gets a column. */
const MIGRATED = "notification";
/** What `concierge keys rotate` says to wait before a published key may sign, and a little more. */
const PUBLISHED_MS = 62_000;
/** The parts of the source that make a version. */
const VERSION = ["src", "gen", "drizzle", "package.json"];
const EXPANSION = `-- expand
ALTER TABLE "notifications" ADD COLUMN "channel" text;
--> statement-breakpoint
CREATE INDEX "notifications_channel" ON "notifications" ("channel");
`;

/** Every process once: service by service in this order, one replica after the other. */
async function restartAll(
  cluster: Pick<Cluster, "replicas" | "restart">,
  names = services.map(({ name }) => name),
): Promise<void> {
  for (const name of names) {
    for (const replica of replicasOf(cluster, name)) await cluster.restart(replica);
  }
}

function replicasOf(cluster: Pick<Cluster, "replicas">, service: string) {
  return cluster.replicas.filter((replica) => replica.service.name === service);
}

/** A step of changing the keys of all pairs of services, with all processes restarted in a random order. */
export async function stepPairs(cluster: Cluster, step: KeyStep): Promise<void> {
  const pairs = pairsOf(services).flatMap(({ caller, callee }) => ["--pair", `${caller}:${callee}`]);
  await cluster.run(["keys", "rotate-pairs", step, "--keys", cluster.keysFolder, ...pairs]);
  await restartAll(cluster, shuffled(services.map(({ name }) => name)));
}

/**
 * Publishes so many signing keys at once, waits as long as the command says while `meanwhile` happens, and lets one after the other
 * sign; all others are retired when their last token has expired. By the file, because the command changes one key at a time.
 */
export async function rotateSigningKeys(
  { keysFolder, ...cluster }: Cluster,
  count: number,
  tokenSeconds: number,
  meanwhile: () => Promise<void>,
): Promise<void> {
  const take = async (keys: SetKey[]) => {
    await writeSigningKeys(keysFolder, { keys });
    await restartAll(cluster, ["auth"]);
  };
  const made = await Promise.all(Array.from({ length: count }, () => createSigningKeys("ES256")));
  const { keys: before } = await readSigningKeys(keysFolder);
  const published = made.flatMap(({ keys }) => keys);
  await take([...before, ...published]);
  const publishedAt = clock.monotonic();
  await meanwhile();
  await delay(Math.max(0, publishedAt + PUBLISHED_MS - clock.monotonic()));
  for (const next of published) await take([next, ...before, ...published.filter((key) => key !== next)]);
  await delay(tokenSeconds * 1_000);
  await take(published.slice(-1));
}

/**
 * A migration by a newer version, whose one process then runs beside the old one's, for a while each way round; then the old
 * version is back everywhere, over the newer schema. `wait` is for how long each state lasts.
 */
export async function upgradeAndReturn(cluster: Cluster, wait: () => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-newer-"));
  try {
    const newer = await makeNewerVersion(folder);
    await cluster.run(["migrate", MIGRATED], newer);
    await wait();
    const [first, second] = replicasOf(cluster, MIGRATED);
    await cluster.restart(first!, newer);
    await wait();
    // Old code starts over the newer schema, too.
    await cluster.restart(second!);
    await wait();
    await cluster.restart(first!, MAIN_FILE);
    await wait();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A copy of the source with one more migration. Returns its main.ts. */
async function makeNewerVersion(folder: string): Promise<string> {
  const source = dirname(dirname(MAIN_FILE));
  for (const part of VERSION) await cp(join(source, part), join(folder, part), { recursive: true });
  await symlink(join(source, "node_modules"), join(folder, "node_modules"));
  const series = join(folder, "drizzle", MIGRATED);
  const files = (await readdir(series)).filter((name) => /^\d{4}_.*\.sql$/.test(name) && !name.endsWith(".down.sql"));
  const number = String(files.length).padStart(4, "0");
  await writeFile(join(series, `${number}_channel.sql`), EXPANSION);
  return join(folder, "src", "main.ts");
}

function shuffled<Item>(items: Item[]): Item[] {
  const rest = [...items];
  return items.map(() => rest.splice(Math.floor(Math.random() * rest.length), 1)[0]!);
}
