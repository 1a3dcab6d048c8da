/** `concierge push-stand-in`, as a program of somebody's own tests. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { ExitCode } from "../errors.ts";
import { occupiedPort, runHere } from "../testing/command.ts";
import { until } from "../testing/until.ts";

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-push-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test("`concierge push-stand-in` makes a key, says where it is, and stops when it is told to", async (t) => {
  const folder = await folderFor(t);
  const [key, ledger] = [join(folder, "made", "key.json"), join(folder, "pushes.jsonl")];
  const args = ["push-stand-in", "--key", key, "--ledger", ledger];
  const stop = new AbortController();
  const said: string[] = [];
  const ended = runHere(args, {}, { stop: stop.signal, print: (text) => void said.push(text) });
  const [, url] = await until("the address", () => / address +(http:\S+)/.exec(said.join("")));
  assert.equal((await fetch(url!)).status, 200);
  assert.equal((await stat(key)).mode & 0o777, 0o600);
  const account = await readFile(key, "utf8");
  assert.ok(!said.join("").includes(JSON.parse(account).private_key));
  stop.abort();
  assert.equal((await ended).code, ExitCode.ok);
  await runHere(args, {}, { stop: stop.signal });
  assert.equal(await readFile(key, "utf8"), account, "the same key, the next time");
});

test("`concierge push-stand-in` says what is wrong with its port or its key", async (t) => {
  const folder = await folderFor(t);
  await using occupied = await occupiedPort();
  const key = join(folder, "key.json");
  const run = (...more: string[]) =>
    runHere(["push-stand-in", "--key", key, "--ledger", join(folder, "pushes.jsonl"), ...more]);
  assert.equal((await run("--port", "x")).code, ExitCode.usage);
  const taken = await run("--port", String(occupied.port));
  assert.deepEqual([taken.code, /the port is in use/.test(taken.stderr)], [ExitCode.unavailable, true]);
  await writeFile(key, '{"type":"authorized_user"}');
  const refused = await run();
  assert.deepEqual([refused.code, /is not a service account's/.test(refused.stderr)], [ExitCode.config, true]);
});
