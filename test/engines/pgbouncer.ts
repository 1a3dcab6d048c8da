/** PgBouncer in transaction mode, before one database. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "../../src/db/connection.ts";
import { until } from "../../src/testing/until.ts";

/** It refuses to run as root, and needs no rights of its own. */
const ACCOUNT = "nobody";

export interface PgBouncer extends AsyncDisposable {
  /** Of the same database, by way of the pooler. */
  url: string;
}

/** Starts it before the database of this URL. `ignored` are settings of clients that it drops without a word. */
export async function startPgBouncer(databaseUrl: string, ignored: string[] = []): Promise<PgBouncer> {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-pgbouncer-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  await chmod(folder, 0o755);
  const port = await freePort();
  const { hostname, port: databasePort, username, password, pathname } = new URL(databaseUrl);
  const database = pathname.slice(1);
  const target = `host=${hostname} port=${databasePort} dbname=${database}`;
  const lines = [
    "[databases]",
    `${database} = ${target} user=${decodeURIComponent(username)} password=${decodeURIComponent(password)}`,
    "[pgbouncer]",
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "auth_type = any",
    "pool_mode = transaction",
    `ignore_startup_parameters = ${["extra_float_digits", ...ignored].join(",")}`,
    "",
  ];
  const file = join(folder, "pgbouncer.ini");
  await writeFile(file, lines.join("\n"));
  const asRoot = process.getuid?.() === 0 ? ["--user", ACCOUNT] : [];
  const child = spawn(process.env.CONCIERGE_TEST_PGBOUNCER!, ["--quiet", ...asRoot, file], { stdio: "ignore" });
  const exited = once(child, "exit");
  opened.defer(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  const url = new URL(databaseUrl);
  url.port = String(port);
  await until("PgBouncer answers", () => answers(url.href));
  const resources = opened.move();
  return { url: url.href, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

async function answers(url: string): Promise<boolean> {
  const sql = connect(url, { applicationName: "test" });
  try {
    await sql`select 1`;
    return true;
  } catch {
    return false;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
