/**
 * What every package that we install must be: pinned to one version, known by the digest of its bytes, under a licence that we may
 * use, and without a script at its installation unless somebody has approved it. Says what is not so; asks nobody.
 */

/** Of a package.json, what is looked at. */
export interface Manifest {
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
  allowScripts?: Record<string, boolean>;
}

/** Of one entry of package-lock.json. */
export interface LockedPackage extends Manifest {
  version?: string;
  resolved?: string;
  integrity?: string;
  license?: string;
  hasInstallScript?: boolean;
  link?: boolean;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
}

/** The entries by their folder, ours by "". */
export type Lock = Record<string, LockedPackage>;

/** What a package.json may install. */
const OWN = ["dependencies", "devDependencies", "optionalDependencies"] as const;
const EXACT = /^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$/;
const INTEGRITY = /^sha512-[A-Za-z0-9+/]{86}==$/;
const LICENCES = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "ISC",
  "MIT",
  "MIT-0",
  "Unlicense",
]);
/** Packages whose lock entry names no licence, and what their own files say. */
const LICENCES_READ: Record<string, string> = { "limiter@1.1.5": "MIT" };

/** @param isInstalled whether there is such a folder here; packages of other platforms run nothing. */
export function dependencyProblems(manifest: Manifest, lock: Lock, isInstalled: (folder: string) => boolean): string[] {
  const packages = Object.entries(lock).filter(([folder]) => folder !== "");
  return [
    ...unpinned(manifest),
    ...unlike(manifest, lock[""] ?? {}),
    ...packages.flatMap(([folder, locked]) => [
      ...originProblems(folder, locked),
      ...licenceProblems(folder, locked),
      ...scriptProblems(folder, locked, manifest, isInstalled),
    ]),
    ...staleApprovals(manifest, packages),
  ];
}

/** Peers are those of whoever installs us, so they may be of any version, and missing. */
function unpinned({ peerDependencies, peerDependenciesMeta, ...manifest }: Manifest): string[] {
  const own = OWN.flatMap((kind) => Object.entries(manifest[kind] ?? {})).filter(([, version]) => !EXACT.test(version));
  const peers = Object.keys(peerDependencies ?? {}).filter((name) => !peerDependenciesMeta?.[name]?.optional);
  return [
    ...own.map(([name, version]) => `package.json: ${name} is not pinned to one version (${version})`),
    ...peers.map((name) => `package.json: the peer ${name} is not optional`),
  ];
}

function unlike(manifest: Manifest, locked: Manifest): string[] {
  return OWN.flatMap((kind) => {
    const [wanted, found] = [manifest[kind] ?? {}, locked[kind] ?? {}];
    const names = new Set([...Object.keys(wanted), ...Object.keys(found)]);
    const different = [...names].filter((name) => wanted[name] !== found[name]);
    return different.map((name) => `package-lock.json: ${name} is not as package.json says`);
  });
}

function originProblems(folder: string, locked: LockedPackage): string[] {
  const { version, resolved, integrity, link } = locked;
  if (link || version === undefined || !EXACT.test(version)) return [`${folder}: does not come from a registry`];
  // .npmrc keeps it out of what comes from the registry: what has it comes from an address that a package.json names.
  if (resolved !== undefined) return [`${folder}: comes from elsewhere`];
  if (integrity === undefined) return isOfOtherPlatform(locked) ? [] : [`${folder}: has no digest`];
  return INTEGRITY.test(integrity) ? [] : [`${folder}: has no SHA-512 digest`];
}

/** npm cannot always see these when it writes the lock file. Development tools only: production never goes without a digest. */
function isOfOtherPlatform({ dev, optional, os }: LockedPackage): boolean {
  return dev === true && optional === true && os !== undefined;
}

function licenceProblems(folder: string, { version, license }: LockedPackage): string[] {
  const name = nameOf(folder);
  const licence = license ?? LICENCES_READ[`${name}@${version}`];
  if (licence === undefined) return [`${folder}: names no licence`];
  return isAllowed(licence) ? [] : [`${folder}: has the licence ${licence}`];
}

/** One of those named with OR, all of those named with AND; what is neither, nor a single name, is not allowed. */
function isAllowed(expression: string): boolean {
  const plain = expression.replace(/^\(([^()]*)\)$/, "$1");
  return plain.split(" OR ").some((either) => either.split(" AND ").every((licence) => LICENCES.has(licence)));
}

function scriptProblems(
  folder: string,
  { hasInstallScript }: LockedPackage,
  { allowScripts }: Manifest,
  isInstalled: (folder: string) => boolean,
): string[] {
  if (!hasInstallScript || allowScripts?.[nameOf(folder)] || !isInstalled(folder)) return [];
  return [`${folder}: has an install script that allowScripts of package.json does not approve`];
}

function staleApprovals({ allowScripts }: Manifest, packages: [string, LockedPackage][]): string[] {
  const withScript = new Set(
    packages.filter(([, locked]) => locked.hasInstallScript).map(([folder]) => nameOf(folder)),
  );
  const stale = Object.keys(allowScripts ?? {}).filter((name) => !withScript.has(name));
  return stale.map((name) => `package.json: allowScripts approves ${name}, which has no install script`);
}

/** "a/node_modules/@b/c" is @b/c. */
function nameOf(folder: string): string {
  return folder.slice(folder.lastIndexOf("node_modules/") + "node_modules/".length);
}
