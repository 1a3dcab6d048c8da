/**
 * The packages that only the server needs. Whoever uses the client alone does not install them (they are optional peers in
 * package.json); whoever then starts the server is told which are missing, and how to get them.
 */
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import "./drizzle-imports.ts";
import { ExitCode, StartupError } from "./errors.ts";

/** Imports a part of the server. Throws a StartupError that names all missing packages when one of them is the reason. */
export async function importServer<Part>(load: () => Promise<Part>): Promise<Part> {
  try {
    return await load();
  } catch (error) {
    const missing = isMissingPackage(error) ? missingPackages() : [];
    if (missing.length === 0) throw error;
    throw new StartupError(
      `packages that only the server needs are not installed: npm install --save-dev ${missing.join(" ")}`,
      ExitCode.config,
    );
  }
}

function isMissingPackage(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND";
}

/** As npm takes them: with the versions that the server is tested with. */
function missingPackages(): string[] {
  const { peerDependencies, devDependencies } = JSON.parse(
    readFileSync(findPackageJSON("..", import.meta.url)!, "utf8"),
  ) as Record<"peerDependencies" | "devDependencies", Record<string, string>>;
  return Object.keys(peerDependencies)
    .filter((name) => !isInstalled(name))
    .map((name) => `${name}@${devDependencies[name]}`);
}

export function isInstalled(name: string): boolean {
  try {
    return findPackageJSON(name, import.meta.url) !== undefined;
  } catch {
    return false;
  }
}
