/** The system behind concierge/testing: every service in this process, over the machine's own clock. */
import { systemClock } from "../clock.ts";
import { identifier, withDatabase } from "../db/connection.ts";
import { asAdmin } from "../db/provision.ts";
import type { ServiceKey } from "../token/service-token.ts";
import type { TestClock } from "./clock.ts";
import { testCluster } from "./cluster.ts";
import { startTestSystem } from "./system.ts";

/** Where a system is and what is needed to use it; plain data, for other processes, too. */
export interface Addresses {
  publicUrl: string;
  internalUrl: string;
  restUrl: string;
  issuer: string;
  /** Those of the caller "backend". */
  keys: ServiceKey[];
  /** The URL of the superuser of its PostgreSQL. */
  databasesUrl: string;
}

const ISSUER = "http://concierge.test";

/** Consumers have clocks of their own, and those run. */
const RUNNING: TestClock = {
  ...systemClock,
  advance() {
    throw new Error("the machine's own clock cannot be moved");
  },
};

export async function startSystem(variables: Record<string, string>): Promise<Addresses & AsyncDisposable> {
  const system = await startTestSystem({ clock: RUNNING, variables: { CONCIERGE_ISSUER: ISSUER, ...variables } });
  return {
    publicUrl: system.publicUrl,
    internalUrl: system.internalUrl,
    restUrl: system.server.restUrl!,
    issuer: variables.CONCIERGE_ISSUER ?? ISSUER,
    keys: system.serviceKeys.filter(({ kind }) => kind === "backend"),
    databasesUrl: (await testCluster()).adminUrl,
    [Symbol.asyncDispose]: () => system[Symbol.asyncDispose](),
  };
}

/** Makes an empty database, and tells its URL. It goes with the whole PostgreSQL. */
export async function makeDatabase(databasesUrl: string): Promise<string> {
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  await asAdmin(databasesUrl, (sql) => sql.unsafe(`create database ${identifier(name)}`));
  return withDatabase(databasesUrl, name);
}
