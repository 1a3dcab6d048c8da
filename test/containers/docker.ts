/**
 * A container engine of the tests' own: a real daemon whose containers, images and settings are in one folder. What it
 * changes on the machine, the rules of its firewall, is changed back when it has ended.
 */
import { type ExecFileOptions, execFile, execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { engine } from "../engines/engine.ts";

const run = promisify(execFile);
const MOST_OUTPUT_BYTES = 64 * 1024 * 1024;
/** For a build that fetches packages. */
const TIMEOUT_MS = 300_000;

export interface Docker extends AsyncDisposable {
  /** Runs a program that finds this engine; resolves with what it prints, and throws with it when it fails. */
  run(program: string, programArguments: readonly string[], options?: ExecFileOptions): Promise<string>;
}

export async function startDocker(program: string, variables: Record<string, string>): Promise<Docker> {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-docker-"));
  opened.defer(async () => {
    await unmountAll(folder);
    await rm(folder, { recursive: true, force: true });
  });
  const rules = execFileSync("iptables-save", { encoding: "utf8" });
  opened.defer(() => void execFileSync("iptables-restore", { input: rules }));
  const env = { ...process.env, ...variables, DOCKER_HOST: `unix://${folder}/docker.sock`, DOCKER_BUILDKIT: "0" };
  const docker = { maxBuffer: MOST_OUTPUT_BYTES, timeout: TIMEOUT_MS, env, encoding: "utf8" as const };
  const home = join(folder, "home");
  await mkdir(home);
  const daemon = engine({
    program,
    programArguments: [
      ...["--host", env.DOCKER_HOST, "--pidfile", join(folder, "pid")],
      ...["--data-root", join(folder, "data"), "--exec-root", join(folder, "run"), "--bridge", "none"],
    ],
    folder: home,
    answers: () =>
      run("docker", ["info"], docker).then(
        () => true,
        () => false,
      ),
  });
  opened.use(daemon);
  await daemon.start();
  const resources = opened.move();
  return {
    async run(name, programArguments, options = {}) {
      const { stdout, stderr } = await run(name, programArguments, { ...docker, ...options, encoding: "utf8" });
      return `${stdout}${stderr}`;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** The daemon leaves some of its mounts behind. */
async function unmountAll(folder: string): Promise<void> {
  const mounts = (await readFile("/proc/mounts", "utf8")).split("\n").map((line) => line.split(" ")[1] ?? "");
  for (const mount of mounts.filter((place) => place.startsWith(`${folder}/`)).reverse()) await run("umount", [mount]);
}
