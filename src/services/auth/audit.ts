/**
 * The audit log: what happened to accounts, who did it, and from where. A row is written in the transaction of what it tells
 * of, so there is none without it and none too many; a refusal has one of its own. Rows hold no secret and no e-mail address.
 */
import type { Db, Tx } from "../../db/database.ts";
import { type CallScope, callerName } from "../../rpc/call.ts";
import { auditLog } from "./schema.ts";

/** Everything that is written down. */
export type AuditAction =
  | "account_registered"
  | "account_disabled"
  | "account_enabled"
  | "email_changed"
  | "email_change_asked"
  | "email_verified"
  | "login"
  | "password_changed"
  | "password_rehashed"
  | "password_reset"
  | "password_reset_asked"
  | "session_ended"
  | "sessions_ended"
  | "refresh_token_reused"
  | "verification_asked";

export interface AuditEntry {
  action: AuditAction;
  /** Success unless it is said. */
  outcome?: "success" | "refused";
  /** Why it was refused, or why it was done: a fixed word, never what somebody has sent. */
  reason?: string;
  accountId?: string;
  sessionId?: string;
}

/** Writes down what a call has done. */
export async function audit(db: Db | Tx, { caller, origin }: CallScope, entry: AuditEntry): Promise<void> {
  const { action, outcome = "success", reason = "", accountId, sessionId } = entry;
  const actor = callerName(caller) ?? "anonymous";
  await db.insert(auditLog).values({ action, outcome, reason, accountId, sessionId, actor, ...origin });
}
