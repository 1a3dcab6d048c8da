/**
 * The organization that an access token names: the one that is asked for, else the last one that the account asked for. It is where a
 * person acts, and no right to do so: those are looked up wherever something is decided.
 */
import { ConnectError } from "@connectrpc/connect";
import { and, eq } from "drizzle-orm";
import type { Db, Tx } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { Revisions } from "../../rights/revisions.ts";
import type { Subject } from "../../rights/rights.ts";
import type { FreshRights } from "../../rights/rights-watch.ts";
import type { CallScope } from "../../rpc/call.ts";
import { accounts } from "./schema.ts";
import type { AuthContext } from "./service.ts";

/** For whether a person may still act in the organization that is remembered. */
const MOST_WAIT_MS = 250;

/** What decides about it. */
export interface OrganizationChoice {
  userId: string;
  /** UUID of the one that is asked for; empty for none. */
  asked: string;
  /** The last one that the account asked for. */
  last: string | null;
}

/**
 * Which one a token is to name. PERMISSION_DENIED / NO_ORGANIZATION and UNAVAILABLE / AUTH_STALE for one that is asked for, so to be
 * called before anything is used up.
 */
export async function chooseOrganization(
  auth: Pick<AuthContext, "rights">,
  { wanted }: CallScope,
  { userId, asked, last }: OrganizationChoice,
): Promise<string | undefined> {
  if (asked === "") return keepOrganization(auth, userId, last);
  const organizationId = asked.toLowerCase();
  if (isActive(await rightsIn(auth, { userId, organizationId }, wanted))) return organizationId;
  throw fail(Code.PermissionDenied, "NO_ORGANIZATION", "you are no member of this organization, or it is suspended");
}

/** The same one again, unless the person is known to be no member of it, or it is known to be suspended. */
export async function keepOrganization(
  auth: Pick<AuthContext, "rights">,
  userId: string,
  last: string | null | undefined,
): Promise<string | undefined> {
  if (!last) return undefined;
  // Whoever decides by the token asks for the rights again: while nobody can tell, the person gets in all the same, and soon.
  return new Promise((resolve) => {
    const late = setTimeout(resolve, MOST_WAIT_MS, last);
    rightsIn(auth, { userId, organizationId: last })
      .then((found) => resolve(isActive(found) ? last : undefined))
      .catch(() => resolve(last))
      .finally(() => clearTimeout(late));
  });
}

function isActive(found: FreshRights | undefined): boolean {
  return found?.rights.standing === "active";
}

/** Written only if it is another one than before. */
export async function rememberOrganization(
  db: Db | Tx,
  { userId, last }: Pick<OrganizationChoice, "userId" | "last">,
  organizationId: string | undefined,
): Promise<void> {
  if (!organizationId || organizationId === last) return;
  // Nothing is noted of an account that is being deleted.
  const isActive = and(eq(accounts.id, userId), eq(accounts.status, "active"));
  await db.update(accounts).set({ lastOrganizationId: organizationId }).where(isActive);
}

/** Somebody's rights; undefined in an organization that there is not. UNAVAILABLE / AUTH_STALE. */
export async function rightsIn(
  { rights: watch }: Pick<AuthContext, "rights">,
  subject: Subject,
  wanted?: Revisions,
): Promise<FreshRights | undefined> {
  try {
    return await watch.rightsOf(subject, { wanted });
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return undefined;
    throw error;
  }
}
