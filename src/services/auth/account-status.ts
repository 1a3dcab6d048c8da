/** What those who run the installation do to accounts: end their sessions, disable them, enable them. */
import { and, eq, ne } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { accountNotFound } from "./accounts.ts";
import { audit } from "./audit.ts";
import { accounts } from "./schema.ts";
import { endAllSessions } from "./sessions.ts";

/** Ends all sessions of an account; returns how many were live. NOT_FOUND / ACCOUNT_NOT_FOUND. */
export async function endUserSessions(db: Db, scope: CallScope, userId: string): Promise<number> {
  return transaction(
    db,
    async (tx) => {
      await lockAccount(tx, userId);
      const { events } = await endAllSessions(tx, userId, "ended_by_administrator");
      await emit(tx, events);
      await audit(tx, scope, { action: "sessions_ended", accountId: userId });
      return events.length;
    },
    { signal: scope.signal },
  );
}

/** Ends all sessions of an account and lets it start none. NOT_FOUND / ACCOUNT_NOT_FOUND. */
export async function disableAccount(db: Db, scope: CallScope, userId: string): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      if ((await lockAccount(tx, userId)) === "disabled") return;
      await tx.update(accounts).set({ status: "disabled" }).where(eq(accounts.id, userId));
      const { events } = await endAllSessions(tx, userId, "account_disabled");
      await emit(tx, events);
      await audit(tx, scope, { action: "account_disabled", accountId: userId });
    },
    { signal: scope.signal },
  );
}

/** Lets a disabled account log in again. NOT_FOUND / ACCOUNT_NOT_FOUND. */
export async function enableAccount(db: Db, scope: CallScope, userId: string): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      if ((await lockAccount(tx, userId)) === "active") return;
      await tx.update(accounts).set({ status: "active" }).where(eq(accounts.id, userId));
      await audit(tx, scope, { action: "account_enabled", accountId: userId });
    },
    { signal: scope.signal },
  );
}

/** Locks an account that is not deleted, and says in which state it is. */
async function lockAccount(tx: Tx, userId: string): Promise<"active" | "disabled" | "deleted"> {
  const [account] = await tx
    .select({ status: accounts.status })
    .from(accounts)
    .where(and(eq(accounts.id, userId), ne(accounts.status, "deleted")))
    .for("no key update");
  if (!account) throw accountNotFound();
  return account.status;
}
