/** What those who run the installation do to accounts: end their sessions, disable them, enable them. */
import { and, eq, ne } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type Account, accountNotFound } from "./accounts.ts";
import { forgetAttempts } from "./attempts.ts";
import { audit } from "./audit.ts";
import { forgetDevices } from "./devices.ts";
import { accounts } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions } from "./sessions.ts";

/** Ends all sessions of an account; returns how many were live. NOT_FOUND / ACCOUNT_NOT_FOUND. */
export async function endUserSessions(db: Db, scope: CallScope, userId: string): Promise<number> {
  return transaction(
    db,
    async (tx) => {
      await lockAccount(tx, userId);
      await forgetDevices(tx, userId);
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
      if ((await lockAccount(tx, userId)).status === "disabled") return;
      await forgetDevices(tx, userId);
      await tx.update(accounts).set({ status: "disabled" }).where(eq(accounts.id, userId));
      const { events } = await endAllSessions(tx, userId, "account_disabled");
      await emit(tx, events);
      await audit(tx, scope, { action: "account_disabled", accountId: userId });
    },
    { signal: scope.signal },
  );
}

/** Lets a disabled account log in again, and forgets its failures. NOT_FOUND / ACCOUNT_NOT_FOUND. */
export async function enableAccount(auth: AuthContext, scope: CallScope, userId: string): Promise<void> {
  await transaction(
    auth.db,
    async (tx) => {
      const { status, emailKey } = await lockAccount(tx, userId);
      if (status === "active") return;
      await forgetAttempts(tx, auth, emailKey);
      await tx.update(accounts).set({ status: "active" }).where(eq(accounts.id, userId));
      await audit(tx, scope, { action: "account_enabled", accountId: userId });
    },
    { signal: scope.signal },
  );
}

/** Locks an account that is not deleted. */
async function lockAccount(tx: Tx, userId: string): Promise<Pick<Account, "status" | "emailKey">> {
  const [account] = await tx
    .select({ status: accounts.status, emailKey: accounts.emailKey })
    .from(accounts)
    .where(and(eq(accounts.id, userId), ne(accounts.status, "deleted")))
    .for("no key update");
  if (!account) throw accountNotFound();
  return account;
}
