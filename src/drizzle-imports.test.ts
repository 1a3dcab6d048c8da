import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import test from "node:test";
import { promisify } from "node:util";

const QUICK = new URL("./drizzle-imports.ts", import.meta.url).href;
const USER = new URL("./db/database.ts", import.meta.url).href;

/** Prints what modules of Drizzle were resolved to, and how often Node itself was asked. */
const SCRIPT = `
  import { registerHooks } from "node:module";
  const isDrizzle = (specifier, parent = "") => (specifier + " " + parent).includes("drizzle-orm");
  let asked = 0;
  registerHooks({
    resolve(specifier, context, nextResolve) {
      if (isDrizzle(specifier, context.parentURL)) asked++;
      return nextResolve(specifier, context);
    },
  });
  if (process.argv[1] === "quick") await import(${JSON.stringify(QUICK)});
  const modules = new Set();
  registerHooks({
    resolve(specifier, context, nextResolve) {
      const found = nextResolve(specifier, context);
      if (isDrizzle(found.url)) modules.add(found.url + " " + found.format);
      return found;
    },
  });
  await import(${JSON.stringify(USER)});
  process.stdout.write(JSON.stringify({ modules: [...modules].sort(), asked }));`;

test("Drizzle's modules are those that Node finds, and Node is asked for each of its names once", async () => {
  const [quick, plain] = await Promise.all([resolutions("quick"), resolutions("plain")]);
  assert.deepEqual(quick.modules, plain.modules);
  assert.ok(plain.asked > 200, `without it, Node is asked ${plain.asked} times`);
  assert.ok(quick.asked < 10, `Node is asked ${quick.asked} times`);
});

async function resolutions(how: "quick" | "plain"): Promise<{ modules: string[]; asked: number }> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", SCRIPT, how], {
    maxBuffer: 16 * 1024 * 1024,
  });
  return JSON.parse(stdout);
}
