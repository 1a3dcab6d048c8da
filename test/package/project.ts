/** A project of somebody else's: a clean folder with a package.json, in which npm installs and programs run as they would there. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const CLONE = fileURLToPath(new URL("../..", import.meta.url));

/** What type-checks there: as strict as can be, in the packages' declarations, too. */
const COMPILER_OPTIONS = { strict: true, skipLibCheck: false, target: "es2024", types: ["node"], noEmit: true };
const RESOLUTIONS = {
  nodenext: { module: "nodenext" },
  bundler: { module: "esnext", moduleResolution: "bundler" },
};

const execute = promisify(execFile);

/** How this machine gets to a registry, which npm has to know as well: its proxies, and whom it trusts. */
const NETWORK = /^(?:https?_proxy|no_proxy|npm_config_.*|node_extra_ca_certs|ssl_cert_(?:file|dir))$/i;

export interface Project extends AsyncDisposable {
  readonly folder: string;
  /** Installs packages as npm does it, beside those that are there. */
  install(...packages: string[]): Promise<void>;
  /** Names of the installed packages. */
  installed(): Promise<string[]>;
  write(file: string, text: string): Promise<void>;
  /** Fails with the compiler's words, if there are any. */
  typeCheck(...files: string[]): Promise<void>;
  /** Runs a program of the project, or node, to its end; returns what it printed. */
  run(program: string, ...args: string[]): Promise<string>;
}

/** Packs the clone; returns the tarball. */
export async function pack(folder: string): Promise<string> {
  const { stdout } = await execute("npm", ["pack", "--json", "--pack-destination", folder], { cwd: CLONE });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("[\n"))) as [{ filename: string }];
  return join(folder, filename);
}

export async function createProject(): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-consumer-"));
  const write = (file: string, text: string) => writeFile(join(folder, file), text);
  const path = [join(folder, "node_modules/.bin"), dirname(process.execPath), process.env.PATH].join(":");
  const run = async (program: string, ...args: string[]) => {
    // Of this run's own environment nothing else may help: neither its test runner nor its databases.
    const network = Object.fromEntries(Object.entries(process.env).filter(([name]) => NETWORK.test(name)));
    const env = { ...network, PATH: path, HOME: process.env.HOME };
    const { stdout } = await execute(program, args, { cwd: folder, env, maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  };
  await write("package.json", JSON.stringify({ name: "consumer", private: true, type: "module" }));
  return {
    folder,
    write,
    run,
    install: async (...packages) => void (await run("npm", "install", "--save-exact", "--prefer-offline", ...packages)),
    async installed() {
      const lock = JSON.parse(await readFile(join(folder, "node_modules/.package-lock.json"), "utf8"));
      return Object.keys(lock.packages).map((path) => path.replace(/^.*node_modules\//, ""));
    },
    async typeCheck(...files) {
      for (const resolution of Object.values(RESOLUTIONS)) {
        await write(
          "tsconfig.json",
          JSON.stringify({ compilerOptions: { ...COMPILER_OPTIONS, ...resolution }, files }),
        );
        await run("tsc").catch((error: { stdout: string }) => {
          throw new Error(`with ${JSON.stringify(resolution)}:\n${error.stdout}`);
        });
      }
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
