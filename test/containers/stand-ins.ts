/**
 * Stand-ins for the base images, where none can be fetched: made from Debian's packages, this machine's Node and npm, and
 * the PostgreSQL of development, with what deploy/ expects of the official images.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cp, mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { findBinaries } from "../../src/dev/postgres-binaries.ts";
import type { Docker } from "./docker.ts";

const DEBIAN = "concierge-test-debian";
const AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt";
const POSTGRES_MAJOR = 18;

/** Names of the images, by the variable that takes each. Debian's has Redis, too. */
export const STAND_INS = {
  NODE_IMAGE: "concierge-test-node",
  POSTGRES_IMAGE: "concierge-test-postgres",
  REDIS_IMAGE: DEBIAN,
};

/** `debian`: a tar file with Debian's root. */
export async function makeStandIns(docker: Docker, debian: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-stand-ins-"));
  try {
    await cp(join(import.meta.dirname, "stand-ins"), folder, { recursive: true });
    await cp(process.execPath, join(folder, "node"));
    await cp(AUTHORITIES, join(folder, "ca-certificates.crt"), { dereference: true });
    const npm = await realpath(execFileSync("sh", ["-c", "command -v npm"], { encoding: "utf8" }).trim());
    await cp(resolve(npm, "../.."), join(folder, "npm"), { recursive: true });
    const { folder: programs, major } = await findBinaries(undefined, undefined, () => Promise.resolve(folder));
    assert.equal(major, POSTGRES_MAJOR);
    await cp(dirname(programs), join(folder, "postgres"), { recursive: true, dereference: true });
    await docker.run("docker", ["import", debian, DEBIAN]);
    for (const [image, file] of [
      [STAND_INS.NODE_IMAGE, "node.Dockerfile"],
      [STAND_INS.POSTGRES_IMAGE, "postgres.Dockerfile"],
    ]) {
      const options = ["--network", "host", "--file", join(folder, file!), "--tag", image!];
      await docker.run("docker", ["build", ...options, folder]);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
