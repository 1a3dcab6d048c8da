/**
 * `make prove`: every proof that the Makefile has, one after the other in its quick profile. Prints one table of all goals
 * and keeps it in .concierge/prove.md, with what each proof said in .concierge/prove/<name>.log, and in <name>.json its result,
 * which `make coverage` reads. Fails if a goal is short or a proof died. ONLY="rotation push" takes some of them; SEED=<n> is
 * handed on.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { machineLine } from "../bench/figures.ts";
import { isProven, type ProofEnd, type ProofResult, proofsOf, reportOf, resultOf } from "./report.ts";

const FOLDER = ".concierge/prove";
const REPORT_FILE = ".concierge/prove.md";
/** With what a proof may have to install first. */
const TIMEOUT_MS = 10 * 60_000;
/** Of this run, not of the proofs; and what make tells another make, which has the first one of these in it. */
const OWN_VARIABLES = ["ONLY", "FULL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"];

async function main(): Promise<number> {
  const names = proofsOf(readFileSync("Makefile", "utf8"));
  const wanted = (process.env.ONLY ?? names.join(" ")).split(/[\s,]+/).filter((name) => name !== "");
  const unknown = wanted.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`There is no proof ${unknown.join(", ")}. There are: ${names.join(", ")}\n`);
    return 1;
  }
  mkdirSync(FOLDER, { recursive: true });
  process.stdout.write(`${machineLine()}\n`);
  const results: ProofResult[] = [];
  for (const name of wanted) {
    const result = await prove(name);
    results.push(result);
    writeFileSync(`${FOLDER}/${name}.json`, JSON.stringify(result));
    const word = result.died ? `died (${result.died})` : isProven(result) ? "ok" : "short";
    process.stdout.write(`${name}: ${word}, ${result.goals.length} goals in ${Math.round(result.seconds)} s\n`);
  }
  const report = reportOf(results);
  writeFileSync(REPORT_FILE, `${machineLine()}\n\n${report}`);
  process.stdout.write(`\n${report}\nin ${REPORT_FILE}; what each proof said is in ${FOLDER}\n`);
  return results.every(isProven) ? 0 : 1;
}

async function prove(name: string): Promise<ProofResult> {
  const file = `${FOLDER}/${name}.log`;
  const end = await run(name, file);
  return resultOf(name, readFileSync(file, "utf8"), end);
}

async function run(name: string, file: string): Promise<ProofEnd> {
  const env: NodeJS.ProcessEnv = { ...process.env, QUICK: "1" };
  for (const variable of OWN_VARIABLES) delete env[variable];
  const output = openSync(file, "w");
  const startedAt = performance.now();
  // make ends its children when it is ended.
  const child = spawn("make", ["--no-print-directory", `prove/${name}`], {
    env,
    stdio: ["ignore", output, output],
    timeout: TIMEOUT_MS,
  });
  closeSync(output);
  const [exitCode, signal] = (await once(child, "exit")) as [number | null, string | null];
  return { exitCode, signal, seconds: (performance.now() - startedAt) / 1_000 };
}

process.exitCode = await main();
