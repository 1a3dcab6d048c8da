/** Products: rules and queries. Every query names the organization, which comes from the caller's access token. */
import { Code, ConnectError } from "@connectrpc/connect";
import { and, arrayContains, asc, eq, gt } from "drizzle-orm";
import type { Database } from "./database.ts";
import { products } from "./schema.ts";

const PAGE_SIZE = 100;
const MAX_NAME_LENGTH = 200;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export type Product = typeof products.$inferSelect;

/** Whose products, and where the caller may act: what Concierge says of an access token. */
export interface Scope {
  organizationId: string;
  /** UUIDs of branches. */
  locals: readonly string[];
}

/** Up to 100 products behind the one with the id `after`; of one branch, if one is named. NOT_FOUND, INVALID_ARGUMENT. */
export async function listProducts(
  db: Database,
  scope: Scope,
  { branchId, after }: { branchId: string; after: string },
): Promise<{ page: Product[]; next: string }> {
  if (branchId !== "") checkBranches(scope, [branchId]);
  if (after !== "" && !UUID.test(after)) throw new ConnectError("this is no page token", Code.InvalidArgument);
  const page = await db
    .select()
    .from(products)
    .where(
      and(
        eq(products.organizationId, scope.organizationId),
        branchId === "" ? undefined : arrayContains(products.branchIds, [branchId]),
        after === "" ? undefined : gt(products.id, after),
      ),
    )
    .orderBy(asc(products.id))
    .limit(PAGE_SIZE);
  return { page, next: page.length < PAGE_SIZE ? "" : page.at(-1)!.id };
}

/** INVALID_ARGUMENT, NOT_FOUND. */
export async function createProduct(
  db: Database,
  scope: Scope,
  { name, price, branchIds }: { name: string; price: number; branchIds: string[] },
): Promise<Product> {
  if (name === "" || name.length > MAX_NAME_LENGTH || name.includes("\0")) {
    throw new ConnectError(`name has 1 to ${MAX_NAME_LENGTH} characters`, Code.InvalidArgument);
  }
  if (branchIds.length === 0) throw new ConnectError("a product is sold somewhere", Code.InvalidArgument);
  checkBranches(scope, branchIds);
  const { organizationId } = scope;
  const [product] = await db.insert(products).values({ organizationId, name, price, branchIds }).returning();
  return product!;
}

/** Another's branch is not told from one that does not exist. */
function checkBranches({ locals }: Scope, branchIds: readonly string[]): void {
  if (branchIds.every((id) => locals.includes(id))) return;
  throw new ConnectError("there is no such branch", Code.NotFound);
}
