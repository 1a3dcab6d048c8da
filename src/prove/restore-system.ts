/**
 * The whole system in three processes over one PostgreSQL: auth, greeter, and the others. greeter has no database and goes on
 * while those of the others are restored, as something does that verifies tokens elsewhere.
 */
import { join } from "node:path";
import { connectService, type ServiceConnection } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { databaseOf } from "../db/connection.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { type Environment, openEnvironment } from "../dev/environment.ts";
import { type LedgerEntry, readLedger } from "../dev/push-stand-in.ts";
import { peerVariables } from "../dev/variables.ts";
import { ExitCode } from "../errors.ts";
import { services } from "../services.ts";
import { freePort, runHere } from "../testing/command.ts";
import { readSigningKeys } from "../token/key-folder.ts";
import type { Replica, ReplicaTask } from "./replica.ts";
import { startWorker, type Worker } from "./workers.ts";

const OTHERS = services.map(({ name }) => name).filter((name) => name !== "auth" && name !== "greeter");
const MAKING_MS = 120_000;
const VARIABLES = {
  CONCIERGE_MODE: "development",
  CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false",
  CONCIERGE_AUTH_ATTEMPTS_PER_ADDRESS: "0",
  // Longer than the drill: no token is refused for its age.
  CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: "3600",
  CONCIERGE_AUTH_REST_PORT: "0",
};

/** Makes databases, keys and a push stand-in; nothing else runs yet. `opened` closes it. */
export async function openRestoreSystem(
  folder: string,
  adminUrl: string,
  opened: AsyncDisposableStack,
): Promise<RestoreSystem> {
  const environment = await openEnvironment({
    ...{ folder, definitions: services, migrationsFolder: MIGRATIONS_FOLDER, clock, prefix: "drill_" },
    // The server is lost and restored while this stays.
    server: { url: adminUrl, [Symbol.asyncDispose]: () => Promise.resolve() },
    ...{ keepsDatabases: true, migrates: true, signal: AbortSignal.timeout(MAKING_MS) },
  });
  opened.use(environment);
  const ports = new Map<string, number>();
  for (const name of ["auth", "greeter", "others"]) {
    for (const side of ["public", "internal"]) ports.set(`${name} ${side}`, await freePort());
  }
  return opened.use(new RestoreSystem(folder, environment, ports));
}

export class RestoreSystem implements AsyncDisposable {
  /** By service. */
  readonly databases: ReadonlyMap<string, string>;
  readonly #folder: string;
  readonly #variables: Record<string, string>;
  readonly #operatorKeys: ServiceKey[];
  readonly #ports: Map<string, number>;
  readonly #workers = new Map<string, Worker>();

  constructor(folder: string, { variables, operatorKeys }: Environment, ports: Map<string, number>) {
    this.#folder = folder;
    this.#operatorKeys = operatorKeys;
    this.#ports = ports;
    const peers = services.map((one) => peerVariables(one, (peer) => this.#url(processOf(peer), "internal")));
    this.#variables = Object.assign({}, variables, VARIABLES, ...peers);
    const stored = services.filter(({ hasDatabase }) => hasDatabase);
    const urlOf = (name: string) => variables[`CONCIERGE_${name.toUpperCase()}_DATABASE_URL`]!;
    this.databases = new Map(stored.map(({ name }) => [name, databaseOf(urlOf(name))]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#workers.values()].map((worker) => worker[Symbol.asyncDispose]()));
  }

  /** Starts what does not run. Resolves when all are ready. */
  async start(): Promise<void> {
    const names = ["auth", "others", "greeter"].filter((name) => !this.#workers.has(name));
    await Promise.all(names.map((name) => this.#startOne(name)));
  }

  /** Stops all that have databases: greeter goes on. Resolves to the monotonic time at which auth had ended. */
  async stop(): Promise<number> {
    for (const name of ["others", "auth"]) {
      await this.#workers.get(name)?.[Symbol.asyncDispose]();
      this.#workers.delete(name);
    }
    return clock.monotonic();
  }

  /** Runs `concierge ...` with the variables of all services. Resolves to what it printed; throws unless it exits with 0. */
  async command(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await runHere(args, this.#variables);
    if (code !== ExitCode.ok) throw new Error(`concierge ${args[0]} exits ${code}: ${stderr}`);
    return stdout;
  }

  /** A new signing key, made and activated by the commands. */
  async newSigningKey(): Promise<void> {
    const keys = join(this.#folder, "keys");
    for (const step of ["publish", "activate"]) await this.command("keys", "rotate", step, "--keys", keys);
    this.#variables.CONCIERGE_AUTH_SIGNING_KEYS = JSON.stringify(await readSigningKeys(keys));
  }

  /** `concierge audit verify`. */
  verifyAudit(): Promise<string> {
    const place = ["--url", this.#url("auth", "internal"), "--keys", join(this.#folder, "keys")];
    return this.command("audit", "verify", ...place);
  }

  publicUrl(name: "auth" | "greeter" | "others"): string {
    return this.#url(name, "public");
  }

  /** The internal API of a service, as an operator; `opened` closes it. */
  asOperator(service: string, opened: DisposableStack): ServiceConnection {
    const key = this.#operatorKeys.find(({ callee }) => callee === service)!;
    return opened.use(connectService({ baseUrl: this.#url(processOf(service), "internal"), key, clock }));
  }

  pushes(): Promise<LedgerEntry[]> {
    return readLedger(join(this.#folder, "pushes.jsonl"));
  }

  #url(name: string, side: "public" | "internal"): string {
    return `http://127.0.0.1:${this.#ports.get(`${name} ${side}`)}`;
  }

  async #startOne(name: string): Promise<void> {
    const worker = startWorker("replica", { errorFile: join(this.#folder, "errors") });
    this.#workers.set(name, worker);
    const ports = {
      CONCIERGE_PUBLIC_PORT: String(this.#ports.get(`${name} public`)),
      CONCIERGE_INTERNAL_PORT: String(this.#ports.get(`${name} internal`)),
    };
    const names = name === "others" ? OTHERS : [name];
    const task: ReplicaTask = { services: names, variables: { ...this.#variables, ...ports } };
    await worker.call<Replica>("start", task);
  }
}

function processOf(service: string): string {
  return OTHERS.includes(service) ? "others" : service;
}
