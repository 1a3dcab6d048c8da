/**
 * Fails, and says why, if a package that we install is not as it must be (dependency-rules.ts). Run by `make check`; asks
 * nobody.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { dependencyProblems, type Lock, type Manifest } from "./dependency-rules.ts";

const root = join(import.meta.dirname, "../..");

function readJson<T>(file: string): T {
  return JSON.parse(readFileSync(join(root, file), "utf8")) as T;
}

const { packages } = readJson<{ packages: Lock }>("package-lock.json");
const problems = dependencyProblems(readJson<Manifest>("package.json"), packages, (folder) =>
  existsSync(join(root, folder)),
);
if (problems.length > 0) throw new Error(`Dependencies are not as they must be:\n${problems.join("\n")}`);
