/** Several runners at once, and runners that are stopped or killed at any statement. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import test from "node:test";
import type { Sql } from "postgres";
import { lockWaits } from "../testing/lock-waits.ts";
import { until } from "../testing/until.ts";
import { migrate } from "./migrate.ts";
import { applied, openShop } from "./migrate-testing.ts";

const MIGRATE = new URL("./migrate.ts", import.meta.url).href;

test("R-DEP-03 an abort between two statements leaves no half migration, and ends the wait for the lock", async (t) => {
  const { options, owner, check } = await openShop(t, { "0000_a.sql": gatedMigration("a", 2) });
  const abort = new AbortController();
  await closeGate(owner, "a", 0);
  const running = assert.rejects(migrate({ ...options, signal: abort.signal }), { name: "AbortError" });
  await waitForGate(owner);
  const waiting = assert.rejects(migrate({ ...options, signal: abort.signal }), { name: "AbortError" });
  abort.abort();
  await waiting;
  await openGates(owner);
  await running;
  const [found] = await owner`select to_regclass('a0') as first`;
  assert.equal(found?.first, null);
  await migrate(options);
  await check();
});

test("R-DEP-07 SIGKILL at each statement of each migration: nothing is half applied, the next run completes", async (t) => {
  const shop = { "0000_a.sql": gatedMigration("a", 3), "0001_b.sql": gatedMigration("b", 2) };
  const { options, owner, check } = await openShop(t, shop);
  const points = [
    ["a", 0],
    ["a", 1],
    ["a", 2],
    ["b", 0],
    ["b", 1],
  ] as const;
  for (const [table, index] of points) {
    await closeGate(owner, table, index);
    const runner = spawnRunner(options);
    await waitForGate(owner);
    runner.kill("SIGKILL");
    await once(runner, "exit");
    // the gate is still closed: the server itself notices that nobody waits for the answer
    await until("the server has let the runner go", async () => (await runnersOf(owner)) === 0);
    const [found] = await owner`select to_regclass(${`${table}0`}) as first`;
    assert.equal(found?.first, null);
    await openGates(owner);
  }
  assert.deepEqual(await applied(options), ["shop/0001_b.sql"]);
  await check();
});

/** Each statement makes a table and is followed by a gate that a test can close. */
function gatedMigration(table: "a" | "b", statements: number): string {
  return Array.from({ length: statements }, (_, index) => [
    `CREATE TABLE ${table}${index} (id int)`,
    `SELECT pg_advisory_xact_lock(${gateOf(table, index)})`,
  ])
    .flat()
    .join("\n--> statement-breakpoint\n");
}

function gateOf(table: "a" | "b", index: number): number {
  return (table === "a" ? 7000 : 7100) + index;
}

async function closeGate(owner: Sql, table: "a" | "b", index: number): Promise<void> {
  await owner`select pg_advisory_lock(${gateOf(table, index)})`;
}

async function openGates(owner: Sql): Promise<void> {
  await owner`select pg_advisory_unlock_all()`;
}

async function waitForGate(owner: Sql): Promise<void> {
  await until("the runner waits at a gate", async () => (await lockWaits(owner)) > 0);
}

async function runnersOf(owner: Sql): Promise<number> {
  const rows = await owner`
    select 1 from pg_stat_activity where datname = current_database() and application_name = 'concierge-migrate'`;
  return rows.length;
}

function spawnRunner(options: Parameters<typeof migrate>[0]) {
  const script = `import { migrate } from ${JSON.stringify(MIGRATE)}; await migrate(${JSON.stringify(options)});`;
  return spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: "ignore" });
}
