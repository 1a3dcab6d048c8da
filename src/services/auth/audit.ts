/**
 * The audit log: what happened to accounts, who did it, and from where. A row is written in the transaction of what it tells
 * of, so there is none without it and none too many; a refusal has one of its own. Rows hold no secret and no e-mail address.
 */
import type { Db, Tx } from "../../db/database.ts";
import { type CallScope, callerName } from "../../rpc/call.ts";
import { auditLog } from "./schema.ts";

/** Everything that is written down. */
export const AUDIT_ACTIONS = [
  "account_registered",
  "account_imported",
  "account_disabled",
  "account_enabled",
  "account_deleted",
  "data_exported",
  "email_changed",
  "email_change_asked",
  "email_verified",
  "login",
  "password_changed",
  "password_rehashed",
  "password_reset",
  "password_reset_asked",
  "session_ended",
  "sessions_ended",
  "refresh_token_reused",
  "signing_key_removed",
  "verification_asked",
] as const;

export type AuditAction = (typeof AUDIT_ACTIONS)[number];

export interface AuditEntry {
  action: AuditAction;
  /** Success unless it is said. */
  outcome?: "success" | "refused";
  /** Why it was refused, or why it was done: a fixed word, never what somebody has sent. */
  reason?: string;
  accountId?: string;
  sessionId?: string;
}

/** Who has called, and from where. */
export type AuditScope = Pick<CallScope, "caller" | "origin">;

/** Writes down what a call has done. */
export async function audit(db: Db | Tx, scope: AuditScope, entry: AuditEntry): Promise<void> {
  await auditAll(db, scope, [entry]);
}

/** Writes down several things that a call has done; at least one. */
export async function auditAll(db: Db | Tx, { caller, origin }: AuditScope, entries: AuditEntry[]): Promise<void> {
  const actor = callerName(caller) ?? "anonymous";
  const rows = entries.map(({ action, outcome = "success", reason = "", accountId, sessionId }) => {
    return { action, outcome, reason, accountId, sessionId, actor, ...origin };
  });
  await db.insert(auditLog).values(rows);
}
