/** What access's tests stand on: who asks it, and what it has published. */
import { fromBinary } from "@bufbuild/protobuf";
import { file_concierge_access_v1_access_events } from "../../../gen/concierge/access/v1/access_events_pb.ts";
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { reasonOf } from "../../errors.ts";
import type { TestSystem, TestUser } from "../../testing/system.ts";

/** A published fact, in short: "RoleAssigned support", and the rest of it. */
export interface ToldFact {
  name: string;
  fact: Record<string, unknown>;
}

/** What access has published about an organization, or the platform (""), oldest first. */
export async function told(system: TestSystem, organizationId = ""): Promise<ToldFact[]> {
  const subject = organizationId === "" ? "platform" : `organization/${organizationId}`;
  const rows = await asOwner(
    system,
    (sql) => sql`
    select type, payload from feed_outbox where subject = ${subject} order by id`,
  );
  return rows.map(({ type, payload }) => {
    const desc = file_concierge_access_v1_access_events.messages.find(({ typeName }) => typeName === type)!;
    const { $typeName: _, ...fact } = fromBinary(desc, payload) as { $typeName: string } & Record<string, unknown>;
    return { name: desc.name, fact };
  });
}

/** The same about one person: "RoleAssigned support". */
export async function toldOf(system: TestSystem, userId: string, organizationId = ""): Promise<string[]> {
  const facts = (await told(system, organizationId)).filter(({ fact }) => fact.userId === userId);
  return facts.map(({ name, fact }) => `${name} ${fact.role ?? fact.permission}`);
}

/** As the owner of access's database, who sees everything. */
export async function asOwner<Result>(
  { database }: TestSystem,
  work: (sql: ReturnType<typeof connect>) => PromiseLike<Result>,
): Promise<Result> {
  const sql = connect(database("access").ownerUrl, { applicationName: "test" });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

export const operatorOf = (system: TestSystem) => system.asService(AccessInternalService, "operator", "access");
export const backendOf = (system: TestSystem) => system.asService(AccessInternalService, "backend", "access");
export const memberOf = (system: TestSystem, user: TestUser & { organizationId: string }) =>
  system.asMember(AccessService, user, user.organizationId);

/** For assert.rejects: refused for this reason. */
export function because(reason: string): (error: unknown) => boolean {
  return (error) => {
    if (reasonOf(error) !== reason) throw error;
    return true;
  };
}
