/**
 * Device tokens: who has logged in from a device gets one, and shows it at the next login. It proves nothing and lets nobody in;
 * it only keeps the failures of strangers apart from those of the device. Each is used once, and gives the next one.
 */
import { randomBytes } from "node:crypto";
import { eq, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import { hashOf } from "./refresh-tokens.ts";
import { accounts, deviceTokens } from "./schema.ts";

const TOKEN_BYTES = 32;
const KEPT_DAYS = 180;
const MOST_PER_ACCOUNT = 20;

/** Whether a token belongs to the account of the row that is selected. Any text may be asked about; an empty one does not. */
export function isDeviceOfAccount(token: string): SQL<boolean> {
  return sql`exists (select from ${deviceTokens} where ${deviceTokens.tokenHash} = ${hashOf(token)}
    and ${deviceTokens.accountId} = ${accounts.id} and ${deviceTokens.expiresAt} > concierge_now())`;
}

/** Makes the next token of a device, in the place of the one it has shown, if any; the account's row is locked. */
export async function renewDevice(tx: Tx, accountId: string, shown: string): Promise<string> {
  const token = randomBytes(TOKEN_BYTES).toString("base64url");
  await tx.execute(sql`
    with replaced as (
      delete from ${deviceTokens} where account_id = ${accountId} and (token_hash = ${hashOf(shown)} or token_hash in (
        select token_hash from ${deviceTokens} where account_id = ${accountId} and token_hash <> ${hashOf(shown)}
        order by created_at desc, token_hash offset ${MOST_PER_ACCOUNT - 1}))
    )
    insert into ${deviceTokens} (token_hash, account_id, expires_at)
    values (${hashOf(token)}, ${accountId}, concierge_now() + make_interval(days => ${KEPT_DAYS}))`);
  return token;
}

/** Makes every device of an account unknown again. */
export async function forgetDevices(tx: Tx, accountId: string): Promise<void> {
  await tx.delete(deviceTokens).where(eq(deviceTokens.accountId, accountId));
}
