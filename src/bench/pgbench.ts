/** PostgreSQL's own benchmark, with statements that our code has sent: the reference for what our way of sending them costs. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { SentStatement } from "./recorded-statements.ts";

const HASH_BYTES = 32;
const UUID = /^[\da-f]{8}-[\da-f]{4}-/;

/**
 * A script of these statements, after what sets a turn's variables. `names` says which parameters are an expression of these;
 * other ids and hashes are random, and everything else is as it was sent.
 */
export function scriptOf(turn: string, statements: SentStatement[], names: [value: string | Buffer, sql: string][]) {
  const sqlOf = (value: unknown) => {
    const named = names.find(([name]) => textOf(name) === textOf(value));
    return named ? named[1] : literalOf(value);
  };
  const lines = statements.map(({ query, parameters }) => {
    const text = query.replaceAll(/\$(\d+)/g, (_, place) => sqlOf(parameters[Number(place) - 1]));
    return `${text};`;
  });
  return [turn, ...lines, ""].join("\n");
}

function literalOf(value: unknown): string {
  if (value instanceof Uint8Array && value.length === HASH_BYTES) return "sha256(gen_random_uuid()::text::bytea)";
  if (typeof value === "string" && UUID.test(value)) return "gen_random_uuid()";
  if (typeof value === "number" || typeof value === "boolean" || value === null) return String(value);
  return `'${textOf(value).replaceAll("'", "''")}'`;
}

function textOf(value: unknown): string {
  return value instanceof Uint8Array ? `\\x${Buffer.from(value).toString("hex")}` : String(value);
}

/** Transactions in a second; prepared, as ours are. Each client has a variable `turn`, which begins with 0. */
export async function pgbenchPerSecond(
  url: string,
  script: string,
  { clients, seconds }: { clients: number; seconds: number },
): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-pgbench-"));
  try {
    const file = join(folder, "script.sql");
    await writeFile(file, script);
    const options = [
      "-n",
      "-M",
      "prepared",
      "-c",
      `${clients}`,
      "-j",
      "2",
      "-T",
      `${seconds}`,
      "-D",
      "turn=0",
      "-f",
      file,
    ];
    const { stdout } = await promisify(execFile)("pgbench", [...options, url]);
    const found = /^tps = ([\d.]+)/m.exec(stdout);
    if (!found || !/number of failed transactions: 0 /.test(stdout)) throw new Error(`pgbench failed:\n${stdout}`);
    return Number(found[1]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
