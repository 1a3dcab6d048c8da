/** What is kept of releases, and where; `make release` (main.ts) writes it. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
/** One `v<version>.binpb` for each release: its contract, as buf builds it. */
export const CONTRACTS = join(ROOT, "proto/released");
/** One folder `v<version>` for each release: `<service>.sql` for each service's database, and people.json. */
export const RELEASES = join(ROOT, "released");

/** The versions of all releases, such as "0.1.0", the newest last. */
export async function releases(): Promise<string[]> {
  const versions = (await readdir(RELEASES)).filter((name) => /^v\d+\.\d+\.\d+$/.test(name));
  return versions.map((name) => name.slice(1)).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

/** The services that had a database in a release. */
export async function servicesOf(version: string): Promise<string[]> {
  const files = await readdir(join(RELEASES, `v${version}`));
  return files.filter((file) => file.endsWith(".sql")).map((file) => file.slice(0, -".sql".length));
}

/** The dump of a service's database; loadDump() takes it. */
export function readDump(version: string, service: string): Promise<string> {
  return readFile(join(RELEASES, `v${version}`, `${service}.sql`), "utf8");
}

interface Login {
  email: string;
  password: string;
}

/** Who may log in on these databases. */
export interface People {
  /** An organization, its owner, and one of its members. */
  organizationId: string;
  owner: Login;
  member: Login;
  /** Has registered just before the dump: no other service knew of it yet. */
  newcomer: Login;
}

export async function readPeople(version: string): Promise<People> {
  return JSON.parse(await readFile(join(RELEASES, `v${version}`, "people.json"), "utf8"));
}
