/**
 * Branches: places of organizations. The open ones have different names; a closed one stays, closed, for whatever
 * refers to it.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { and, asc, count, eq, isNull, sql } from "drizzle-orm";
import { validate as isUuid, v7 as uuidv7 } from "uuid";
import type { BranchSchema } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import type { Db, Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization } from "../../db/tenants.ts";
import { Code, fail } from "../../errors.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import type { CallScope, Member } from "../../rpc/call.ts";
import { changeAsMember, type Stored } from "./changes.ts";
import { branchChanged } from "./events.ts";
import { branches } from "./schema.ts";

export type Branch = typeof branches.$inferSelect;

type Scope = Pick<CallScope, "signal">;

const MOST_OPEN = 1_000;
const MAX_NAME_LENGTH = 200;

/** A page of branches, by name. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listBranches(
  db: Db,
  scope: Scope,
  { organizationId }: Pick<Member, "organizationId">,
  { includeClosed, ...page }: PageRequest & { includeClosed: boolean },
): Promise<{ entries: Branch[]; nextPageToken: string }> {
  const list = ["branches", organizationId, includeClosed ? "all" : "open"];
  const after = readPageToken(list, page, isPlace);
  const isMeant = and(
    ofOrganization("branches.list", branches.organizationId, organizationId),
    includeClosed ? undefined : isNull(branches.closedAt),
    after && sql`(${branches.name}, ${branches.id}) > (${after[0]}, ${after[1]}::uuid)`,
  );
  const find = (tx: Tx) => {
    const size = pageSizeOf(page) + 1;
    return tx.select().from(branches).where(isMeant).orderBy(asc(branches.name), asc(branches.id)).limit(size);
  };
  return pageOf(list, page, await forOrganization(db, organizationId, find, scope), ({ name, id }) => [name, id]);
}

function isPlace([name = "", id, ...others]: string[]): boolean {
  const isName = name.length <= MAX_NAME_LENGTH && name.isWellFormed() && !name.includes("\0");
  return isName && isUuid(id) && others.length === 0;
}

/** Makes a branch. ALREADY_EXISTS / BRANCH_EXISTS, FAILED_PRECONDITION / TOO_MANY_BRANCHES. */
export function createBranch(db: Db, scope: Scope, member: Member, name: string): Promise<Stored<Branch>> {
  return changeAsMember(db, scope, member, async (tx, { organization: { id: organizationId } }) => {
    const branch = { id: uuidv7(), organizationId, name };
    await refuseTooMany(tx, organizationId);
    await refuseTakenName(tx, branch);
    const [made] = await tx.insert(branches).values(branch).returning();
    return { result: made!, events: [branchChanged(made!)] };
  });
}

/** NOT_FOUND / BRANCH_NOT_FOUND, ALREADY_EXISTS / BRANCH_EXISTS. */
export function renameBranch(
  db: Db,
  scope: Scope,
  member: Member,
  { branchId, name }: { branchId: string; name: string },
): Promise<Stored<Branch>> {
  return changeAsMember(db, scope, member, async (tx, { organization }) => {
    const before = await requireBranch(tx, organization.id, branchId);
    if (before.closedAt) throw branchNotFound();
    if (before.name === name) return { result: before, events: [] };
    const branch = { ...before, name };
    await refuseTakenName(tx, branch);
    await tx.update(branches).set({ name }).where(isBranch("branches.rename", before));
    return { result: branch, events: [branchChanged(branch)] };
  });
}

/** Closes a branch for good, unless that has been done. NOT_FOUND / BRANCH_NOT_FOUND. */
export function closeBranch(db: Db, scope: Scope, member: Member, branchId: string): Promise<Stored<void>> {
  return changeAsMember(db, scope, member, async (tx, { organization }) => {
    const before = await requireBranch(tx, organization.id, branchId);
    if (before.closedAt) return { result: undefined, events: [] };
    const closing = tx.update(branches).set({ closedAt: sql`concierge_now()` });
    const [closed] = await closing.where(isBranch("branches.close", before)).returning();
    return { result: undefined, events: [branchChanged(closed!)] };
  });
}

async function requireBranch(tx: Tx, organizationId: string, id: string): Promise<Branch> {
  const [branch] = await tx.select().from(branches).where(isBranch("branches.get", { organizationId, id }));
  if (!branch) throw branchNotFound();
  return branch;
}

/**
 * The index would refuse it, too, but not by name; nobody else makes a branch as long as the organization is locked.
 */
async function refuseTakenName(
  tx: Tx,
  { organizationId, name }: Pick<Branch, "organizationId" | "name">,
): Promise<void> {
  const isOpen = isNull(branches.closedAt);
  const isSame = and(
    ofOrganization("branches.name", branches.organizationId, organizationId),
    isOpen,
    eq(branches.name, name),
  );
  const [taken] = await tx.select({ id: branches.id }).from(branches).where(isSame);
  if (taken) throw fail(Code.AlreadyExists, "BRANCH_EXISTS", "an open branch has this name already");
}

async function refuseTooMany(tx: Tx, organizationId: string): Promise<void> {
  const isOpen = isNull(branches.closedAt);
  const isOwn = ofOrganization("branches.count", branches.organizationId, organizationId);
  const [open] = await tx.select({ count: count() }).from(branches).where(and(isOwn, isOpen));
  if (open!.count < MOST_OPEN) return;
  throw fail(Code.FailedPrecondition, "TOO_MANY_BRANCHES", `no more than ${MOST_OPEN} branches are open`);
}

function isBranch(
  name: "branches.get" | "branches.rename" | "branches.close",
  { organizationId, id }: Pick<Branch, "organizationId" | "id">,
) {
  return and(ofOrganization(name, branches.organizationId, organizationId), eq(branches.id, id));
}

function branchNotFound() {
  return fail(Code.NotFound, "BRANCH_NOT_FOUND", "there is no such branch");
}

export function packBranch({ id, organizationId, name, closedAt }: Branch): MessageInitShape<typeof BranchSchema> {
  return { branchId: id, organizationId, name, open: closedAt === null };
}
