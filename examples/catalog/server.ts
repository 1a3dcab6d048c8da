/**
 * The catalog: who calls, and what they may do, is Concierge's to say; what there is to buy is kept here. Handlers unpack, ask
 * Concierge for the caller's branches, call a function of products.ts, and pack.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { AuthClient } from "concierge/client";
import { AccessInternalService } from "concierge/contract/concierge/access/v1/access_service_pb";
import { connectGuard, principalOf, requirePermission, rulesOf } from "concierge/guards";
import type { Database } from "./database.ts";
import { CatalogService } from "./gen/catalog/v1/catalog_pb.ts";
import { createProduct, listProducts, type Product, type Scope } from "./products.ts";

const RULES = rulesOf(CatalogService, {
  listProducts: requirePermission("products:read"),
  createProduct: requirePermission("products:write"),
});

const PERMISSIONS = [
  { name: "products:read", description: "See the products of the organization" },
  { name: "products:write", description: "Add products to branches" },
];

const MAX_REQUEST_BYTES = 64 * 1024;

export interface CatalogOptions {
  auth: AuthClient;
  db: Database;
  /** 0 takes a free one. */
  port: number;
  host?: string;
}

export interface Catalog extends AsyncDisposable {
  readonly url: string;
}

/** Resolves when it listens. Disposing lets calls end that have begun. */
export async function startCatalog({ auth, db, port, host = "127.0.0.1" }: CatalogOptions): Promise<Catalog> {
  await registerPermissions(auth);
  const listener = connectNodeAdapter({
    ...connectGuard(auth, RULES),
    // Connect reads a request before any guard sees it.
    readMaxBytes: MAX_REQUEST_BYTES,
    routes: (router) => router.service(CatalogService, handlers(auth, db)),
  });
  const server = createServer(listener).listen(port, host);
  await once(server, "listening");
  const { port: listensAt } = server.address() as AddressInfo;
  return { url: `http://${host}:${listensAt}`, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** So that roles can have them. Owners and admins hold them at once. */
async function registerPermissions(auth: AuthClient): Promise<void> {
  const access = auth.service(AccessInternalService);
  for (const permission of PERMISSIONS) {
    await access.createPermission(permission).catch((error: unknown) => {
      if (ConnectError.from(error).code !== Code.AlreadyExists) throw error;
    });
  }
}

function handlers(auth: AuthClient, db: Database): ServiceImpl<typeof CatalogService> {
  return {
    async listProducts({ branchId, pageToken }, context) {
      const { page, next } = await listProducts(db, await scopeOf(auth, context), { branchId, after: pageToken });
      return { products: page.map(pack), nextPageToken: next };
    },
    async createProduct({ name, price, branchIds }, context) {
      return { product: pack(await createProduct(db, await scopeOf(auth, context), { name, price, branchIds })) };
    },
  };
}

async function scopeOf(auth: AuthClient, context: HandlerContext): Promise<Scope> {
  const { userId, organizationId } = principalOf(context);
  // The guard lets nobody in without an organization where it requires a permission.
  const subject = { userId, organizationId: organizationId! };
  return { organizationId: subject.organizationId, locals: await auth.getUserLocals(subject) };
}

function pack({ id: productId, name, price, branchIds }: Product) {
  return { productId, name, price, branchIds };
}
