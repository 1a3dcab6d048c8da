/**
 * Changes: what every write of an organization, or of the platform, has in common. They are made one after the other, so that whatever a
 * rule reads stays true until the write; they see the rows of that organization only; and they say which revision they made.
 */
import { type SQL, sql } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { forOrganization } from "../../db/tenants.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { type Revisions, revision } from "../../rights/revisions.ts";
import type { CallScope } from "../../rpc/call.ts";
import { subjectOf } from "./events.ts";

export interface Changed<Result> {
  result: Result;
  /** What whoever must know of the change has to know. */
  revisions: Revisions;
}

/** Makes a change in an organization, or on the platform (""), and publishes the events that `work` returns. */
export async function change<Result>(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  organizationId: string,
  work: (tx: Tx) => Promise<{ result: Result; events: OutboxEvent[] }>,
): Promise<Changed<Result>> {
  const make = async (tx: Tx): Promise<Changed<Result>> => {
    await lockChanges(tx, organizationId);
    const { result, events } = await work(tx);
    const subject = subjectOf(organizationId);
    const version = (await emit(tx, events)).get(subject) ?? (await versionOf(tx, subject));
    return { result, revisions: revision("access", organizationId, version) };
  };
  if (organizationId === "") return transaction(db, make, { signal, settings: { "concierge.platform": "on" } });
  return forOrganization(db, organizationId, make, { signal });
}

/** Keeps other changes of the organization waiting until the transaction ends. Throws, and waits for nobody, if one is under way. */
export async function requireChanges(tx: Tx, organizationId: string): Promise<void> {
  const [lock] = await tx.execute<{ isHeld: boolean }>(
    sql`select pg_try_advisory_xact_lock(${keyOf(organizationId)}) as "isHeld"`,
  );
  if (!lock!.isHeld) throw new Error("the organization is being changed");
}

/** Waits for other changes of the organization, and keeps them waiting until the transaction ends. */
async function lockChanges(tx: Tx, organizationId: string): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(${keyOf(organizationId)})`);
}

function keyOf(organizationId: string): SQL {
  return sql`hashtextextended(${subjectOf(organizationId)}, 0)`;
}

async function versionOf(tx: Tx, subject: string): Promise<bigint> {
  const [found] = await tx.execute<{ version: string }>(sql`
    select version::text from feed_subject where subject = ${subject}`);
  return BigInt(found?.version ?? 0);
}
