/** What was acknowledged under load, compared with what the databases hold in the end. */
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import type { Cluster } from "./rolling-cluster.ts";
import type { Written } from "./rolling-load.ts";

/** What is missing, other than it was told, or there more than once; one line each. */
export async function wrongOf(cluster: Cluster, written: Written): Promise<string[]> {
  const inDatabase = async <Row>(service: string, read: (sql: Sql) => Promise<Row[]>): Promise<Row[]> => {
    const sql = connect(cluster.databaseUrl(service), { applicationName: "concierge-prove" });
    try {
      return await read(sql);
    } finally {
      await sql.end({ timeout: 1 });
    }
  };
  type Named = { id: string; value: string };
  const names = await inDatabase(
    "user",
    (sql) => sql<Named[]>`select user_id as id, first_name as value from profiles`,
  );
  const roles = await inDatabase(
    "access",
    (sql) => sql<Named[]>`select organization_id as id, description as value from roles`,
  );
  const branches = await inDatabase("organization", (sql) => sql<{ name: string }[]>`select name from branches`);
  const notifications = await inDatabase(
    "notification",
    (sql) => sql<{ name: string }[]>`select text as name from notifications`,
  );
  return [
    ...othersThan(written.names, names),
    ...othersThan(written.roles, roles),
    ...notOnce(written.branches, branches),
    ...notOnce(written.notifications, notifications),
  ];
}

function othersThan(told: Record<string, string>, held: { id: string; value: string }[]): string[] {
  const values = new Map(held.map(({ id, value }) => [id, value]));
  return Object.entries(told).flatMap(([id, value]) =>
    values.get(id) === value ? [] : [`"${value}" was acknowledged, "${values.get(id)}" is there`],
  );
}

function notOnce(told: string[], held: { name: string }[]): string[] {
  const times = Map.groupBy(held, ({ name }) => name);
  return told.flatMap((name) => {
    const count = times.get(name)?.length ?? 0;
    return count === 1 ? [] : [`"${name}" was acknowledged and is there ${count} times`];
  });
}
