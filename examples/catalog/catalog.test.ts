/** The catalog against a real Concierge: what each person sees and may add. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type AuthClient, createAuthClient } from "concierge/client";
import { OrganizationService } from "concierge/contract/concierge/organization/v1/organization_service_pb";
import { type Concierge, startConcierge, type TestOrganization, type TestUser } from "concierge/testing";
import { openDatabase } from "./database.ts";
import { CatalogService } from "./gen/catalog/v1/catalog_pb.ts";
import { startCatalog } from "./server.ts";

const NOBODY = crypto.randomUUID();

describe("catalog", () => {
  const opened = new AsyncDisposableStack();
  let concierge: Concierge;
  let url: string;
  let bakery: Shop;
  let florist: Shop;
  let auth: AuthClient;

  before(async () => {
    concierge = opened.use(await startConcierge());
    const { db } = opened.use(await openDatabase(await concierge.newDatabase()));
    const { internalUrl, issuer, keys } = concierge;
    auth = opened.use(createAuthClient({ url: internalUrl, issuer, keys }));
    ({ url } = opened.use(await startCatalog({ auth, db, port: 0 })));
    // Starting again finds its tables and permissions there.
    await (await startCatalog({ auth, db, port: 0 }))[Symbol.asyncDispose]();
    bakery = await openShop("Bakery");
    florist = await openShop("Florist");
  });

  after(() => opened.disposeAsync());

  interface Shop {
    organization: TestOrganization;
    harbour: string;
    station: string;
  }

  async function openShop(name: string): Promise<Shop> {
    const organization = await concierge.newOrganization({ name });
    const organizations = concierge.asUser(OrganizationService, organization.owner.accessToken);
    const { branch: harbour } = await organizations.createBranch({ name: "Harbour" });
    const { branch: station, consistencyToken } = await organizations.createBranch({ name: "Station" });
    // The catalog decides by what it knows: after this question that is both branches.
    const { organizationId, owner } = organization;
    const { userId } = owner;
    await auth.decidePermission({ userId, organizationId, permission: "products:read", consistencyToken });
    return { organization, harbour: harbour!.branchId, station: station!.branchId };
  }

  function catalogFor(user?: TestUser, baseUrl = url) {
    const transport = createConnectTransport({
      ...{ baseUrl, httpVersion: "1.1" },
      interceptors: [
        (next) => (request) => {
          if (user) request.header.set("authorization", `Bearer ${user.accessToken}`);
          return next(request);
        },
      ],
    });
    return createClient(CatalogService, transport);
  }

  const because = (code: Code) => (error: unknown) => ConnectError.from(error).code === code;

  test("an organization's products are its own, in the whole of it and by branch", async () => {
    const baker = catalogFor(bakery.organization.owner);
    const { product: bread } = await baker.createProduct({ name: "Bread", price: 420, branchIds: [bakery.harbour] });
    const { product: cake } = await baker.createProduct({ name: "Cake", price: 0, branchIds: [bakery.station] });
    assert.deepEqual(new Set((await baker.listProducts({})).products), new Set([bread, cake]));
    assert.deepEqual((await baker.listProducts({ branchId: bakery.harbour })).products, [bread]);
    assert.deepEqual((await catalogFor(florist.organization.owner).listProducts({})).products, []);
  });

  test("a branch of another organization, or none at all, is not found", async () => {
    const baker = catalogFor(bakery.organization.owner);
    for (const foreign of [florist.harbour, NOBODY, "", "harbour"]) {
      const branchIds = [bakery.harbour, foreign];
      await assert.rejects(baker.createProduct({ name: "Rose", price: 1, branchIds }), because(Code.NotFound));
      if (foreign !== "") await assert.rejects(baker.listProducts({ branchId: foreign }), because(Code.NotFound));
    }
  });

  test("a member sees or adds products with the permission to, and not without", async () => {
    const roll = { name: "Roll", price: 50, branchIds: [bakery.harbour] };
    const nobody = catalogFor(await concierge.newMember(bakery.organization));
    const reader = catalogFor(await concierge.newMember(bakery.organization, { permissions: ["products:read"] }));
    const writer = catalogFor(await concierge.newMember(bakery.organization, { permissions: ["products:write"] }));
    await assert.rejects(nobody.listProducts({}), because(Code.PermissionDenied));
    await assert.rejects(reader.createProduct(roll), because(Code.PermissionDenied));
    await assert.rejects(writer.listProducts({}), because(Code.PermissionDenied));
    const { product } = await writer.createProduct(roll);
    const { products } = await reader.listProducts({});
    assert.ok(products.some(({ productId }) => productId === product!.productId));
  });

  test("strangers, and people without an organization, get nothing", async () => {
    await assert.rejects(catalogFor().listProducts({}), because(Code.Unauthenticated));
    await assert.rejects(catalogFor(await concierge.newUser()).listProducts({}), because(Code.PermissionDenied));
  });

  test("S-API-02 nobody, stranger or not, makes it keep more than 64 KiB of a request", async () => {
    const request = { name: "x".repeat(65_536), price: 1, branchIds: [] };
    await assert.rejects(catalogFor().createProduct(request), because(Code.ResourceExhausted));
  });

  test("names and pages that are none are refused", async () => {
    const baker = catalogFor(bakery.organization.owner);
    for (const request of [{ name: "" }, { name: "x".repeat(201) }, { name: "\0" }, { name: "Bun", branchIds: [] }]) {
      const product = { price: 1, branchIds: [bakery.harbour], ...request };
      await assert.rejects(baker.createProduct(product), because(Code.InvalidArgument));
    }
    await assert.rejects(baker.listProducts({ pageToken: "2" }), because(Code.InvalidArgument));
  });

  test("pages follow each other without gap or repetition", async () => {
    const { organization, harbour } = await openShop("Kiosk");
    const kiosk = catalogFor(organization.owner);
    const names = Array.from({ length: 101 }, (_, index) => `Paper ${index}`);
    for (const name of names) await kiosk.createProduct({ name, price: 1, branchIds: [harbour] });
    const first = await kiosk.listProducts({});
    const second = await kiosk.listProducts({ pageToken: first.nextPageToken });
    assert.equal(second.nextPageToken, "");
    const listed = [...first.products, ...second.products].map(({ name }) => name);
    assert.deepEqual(listed.sort(), names.sort());
  });

  test("the program serves, and stops when it is asked to", async () => {
    await using folder = await temporaryFolder();
    const keysFile = join(folder.path, "catalog.json");
    await writeFile(keysFile, concierge.keys, { mode: 0o600 });
    const { NODE_TEST_CONTEXT, ...environment } = process.env;
    const program = spawn(process.execPath, [...process.execArgv, join(import.meta.dirname, "main.ts")], {
      env: {
        ...environment,
        CATALOG_DATABASE_URL: await concierge.newDatabase(),
        CATALOG_PORT: "0",
        CONCIERGE_URL: concierge.internalUrl,
        CONCIERGE_ISSUER: concierge.issuer,
        CONCIERGE_KEYS_FILE: keysFile,
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(program, "exit");
    const [line] = await Promise.race([once(program.stdout, "data"), ended]);
    const at = /http:\S+/.exec(String(line))?.[0];
    assert.deepEqual((await catalogFor(bakery.organization.owner, at).listProducts({})).products, []);
    program.kill("SIGTERM");
    assert.deepEqual(await ended, [0, null]);
  });
});

async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), "catalog-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
