/**
 * Backends in other languages, with stubs of our own contract: docs/from-python.md and docs/from-go.md. What the pages show is what
 * runs here.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { type LegacyScenario, PERMISSION_IN_BRANCH, startLegacyScenario } from "./legacy-scenario.ts";

const projectFolder = join(import.meta.dirname, "..");
const built = join(projectFolder, ".concierge/interop");
const TIMEOUT_MS = 20_000;

interface Backend {
  page: string;
  /** The files that it shows whole. */
  files: string[];
  command: [string, ...string[]];
}

const BACKENDS: Backend[] = [
  {
    page: "docs/from-python.md",
    files: ["interop/python/service_token.py", "interop/python/backend.py"],
    command: [join(built, "python/bin/python"), join(import.meta.dirname, "python/backend.py")],
  },
  {
    page: "docs/from-go.md",
    files: ["interop/go/service_token.go", "interop/go/backend.go"],
    command: [join(built, "go-client")],
  },
];

describe("backends in other languages", () => {
  const opened = new AsyncDisposableStack();
  let scenario: LegacyScenario;

  before(async () => {
    scenario = opened.use(await startLegacyScenario());
  });

  after(() => opened.disposeAsync());

  for (const { page, files, command } of BACKENDS) {
    test(`${page} shows the code that runs`, async () => {
      const text = await readProject(page);
      const shown = [...text.matchAll(/^<!-- (\S+) -->\n```\w+\n(.*?)^```$/gms)].map(([, file, code]) => ({
        file,
        code,
      }));
      const real = await Promise.all(files.map(async (file) => ({ file, code: await readProject(file) })));
      assert.deepEqual(shown, real);
    });

    test(`${page}: who sends a token, what they may do, and in which branches`, async () => {
      const { accessToken, member, verified } = scenario;
      const { locals, permissions } = verified;
      const told = { user: member.user_id, locals };
      assert.deepEqual(await ask(command, accessToken, permissions[0]!), { ...told, allowed: true });
      assert.deepEqual(await ask(command, accessToken, PERMISSION_IN_BRANCH), { ...told, allowed: false });
      assert.deepEqual(await ask(command, `${accessToken}x`, permissions[0]!), { unauthorized: true });
    });
  }

  async function ask([file, ...args]: Backend["command"], token: string, permission: string): Promise<unknown> {
    const { stdout } = await promisify(execFile)(file, [...args, token, permission], {
      env: {
        CONCIERGE_ADDRESS: new URL(scenario.target.grpcUrl).host,
        CONCIERGE_KEYS_FILE: scenario.backendsKeysFile,
        PYTHONPATH: join(built, "python/generated"),
        PYTHONDONTWRITEBYTECODE: "1",
      },
      timeout: TIMEOUT_MS,
    });
    return JSON.parse(stdout);
  }
});

function readProject(file: string): Promise<string> {
  return readFile(join(projectFolder, file), "utf8");
}
