/**
 * What auth takes back when its database was restored to an earlier time: whatever somebody has ended since would live again.
 * So no session, token or link of before is good any more, also of sessions that the restored database does not know.
 */
import { and, isNotNull, isNull, sql } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { ExitCode, StartupError } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { madeAt } from "../../token/key-making.ts";
import type { KeySet } from "../../token/signing-keys.ts";
import { type AuditScope, audit, auditAll } from "./audit.ts";
import { signingKeyRemoved } from "./events.ts";
import { deviceTokens, mails, removedKeys, sessions } from "./schema.ts";
import { endSessions } from "./sessions.ts";

const SESSIONS_AT_ONCE = 500;
const SCOPE: AuditScope = {
  caller: { kind: "operator", name: "restored", callee: "auth" },
  origin: { requestId: "", address: "", userAgent: "" },
};

/**
 * Ends every session, kills every mailed link, makes every device unknown, and removes every signing key but the first, which
 * must be new. With the owner's role, while no process of auth runs; run again, it goes on. Returns what it did, a line each.
 * Throws a StartupError before it has changed anything when there is no new key.
 */
export async function revokeAll(db: Db, signingKeys: KeySet | undefined): Promise<string[]> {
  const [signer, ...older] = signingKeys?.keys ?? [];
  // A key that was published only is the newest, and is not in use: whoever goes on signs with one of before.
  const isNewest = signer && older.every(({ kid }) => madeAt(kid) <= madeAt(signer.kid));
  if (!isNewest || older.length === 0) {
    throw new StartupError(
      "CONCIERGE_AUTH_SIGNING_KEYS must begin with a new key, followed by those of before: access tokens of sessions that " +
        "were lost are good as long as their key. Run `concierge keys rotate publish` and `... activate` first",
      ExitCode.config,
    );
  }
  const removed = await transaction(db, async (tx) => removeKeys(tx, older));
  let ended = 0;
  for (let some = -1; some !== 0; ended += some) some = await transaction(db, endSome);
  const links = await transaction(db, killLinks);
  const devices = await db.delete(deviceTokens).returning({ hash: deviceTokens.tokenHash });
  return [
    `${removed} signing keys were removed; ${signer.kid} signs, which must have been made after the loss`,
    `${ended} sessions were ended, ${links} mailed links and ${devices.length} known devices forgotten`,
  ];
}

/** Returns how many had not been removed before. */
async function removeKeys(tx: Tx, keys: KeySet["keys"]): Promise<number> {
  const rows = keys.map(({ kid }) => ({ keyId: kid }));
  const removed = await tx.insert(removedKeys).values(rows).onConflictDoNothing().returning();
  if (removed.length === 0) return 0;
  await emit(
    tx,
    removed.map(({ keyId }) => signingKeyRemoved(keyId)),
  );
  await auditAll(
    tx,
    SCOPE,
    removed.map(({ keyId }) => ({ action: "signing_key_removed", reason: keyId })),
  );
  return removed.length;
}

/** Some of them, in a transaction of their own: there may be millions. Returns how many; 0 when none is left. */
async function endSome(tx: Tx): Promise<number> {
  const some = sql`${sessions.id} in (
    select id from ${sessions} where ${sessions.endedAt} is null limit ${SESSIONS_AT_ONCE})`;
  const events = await endSessions(tx, some, "ended_by_administrator");
  if (events.length === 0) return 0;
  await emit(tx, events);
  await audit(tx, SCOPE, { action: "sessions_ended", reason: "restored" });
  return events.length;
}

/** Those that were not sent, as far as this database knows, are not sent any more. Returns how many were good. */
async function killLinks(tx: Tx): Promise<number> {
  const isAlive = and(isNotNull(mails.tokenHash), isNull(mails.tokenUsedAt));
  const killed = await tx
    .update(mails)
    .set({
      tokenUsedAt: sql`concierge_now()`,
      givenUpAt: sql`case when ${mails.sentAt} is null then coalesce(${mails.givenUpAt}, concierge_now())
        else ${mails.givenUpAt} end`,
    })
    .where(isAlive)
    .returning({ id: mails.id });
  return killed.length;
}
