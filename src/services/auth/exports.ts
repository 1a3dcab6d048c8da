/** What auth stores about a person, for that person to keep. No secret is in it, and nothing about anybody else. */
import { desc, eq } from "drizzle-orm";
import { during } from "../../db/database.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { getAccount } from "./accounts.ts";
import { audit } from "./audit.ts";
import { auditLog, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";

/** Of sessions and of events: so the document stays below the 4 MiB that clients of gRPC take. */
const MOST = 3_000;

/** The JSON document of ExportMyData. */
export async function exportAccount({ db }: AuthContext, scope: CallScope, { userId }: Person): Promise<string> {
  const read = during(db, scope.signal);
  const { email, kind, status, firstName, lastName, locale, stageName, createdAt, lastOrganizationId } =
    await getAccount(read, userId);
  const names = { email, kind, status, firstName, lastName, locale, stageName };
  const account = { userId, ...names, createdAt, lastOrganizationId };
  const foundSessions = await read
    .select()
    .from(sessions)
    .where(eq(sessions.accountId, userId))
    .orderBy(desc(sessions.createdAt), desc(sessions.id))
    .limit(MOST);
  const foundEvents = await read
    .select()
    .from(auditLog)
    .where(eq(auditLog.accountId, userId))
    .orderBy(desc(auditLog.id))
    .limit(MOST);
  await audit(read, scope, { action: "data_exported", accountId: userId });
  return JSON.stringify({
    account,
    sessions: foundSessions.map(packSession),
    securityEvents: foundEvents.map((event) => packEvent(event, userId)),
  });
}

function packSession(session: typeof sessions.$inferSelect) {
  const { id: sessionId, userAgent, address, createdAt, lastUsedAt, expiresAt, endedAt, endReason } = session;
  return { sessionId, userAgent, address, createdAt, lastUsedAt, expiresAt, endedAt, endReason };
}

/** Where those who administer the installation sit, and who they are, is not the person's to know. */
function packEvent(event: typeof auditLog.$inferSelect, userId: string) {
  const { at, action, outcome, reason, sessionId, actor, address, userAgent } = event;
  const fact = { at, action, outcome, reason, sessionId };
  if (actor !== "anonymous" && actor !== `user ${userId}`) return { ...fact, by: "administrator" };
  return { ...fact, by: actor === "anonymous" ? "somebody not logged in" : "you", address, userAgent };
}
