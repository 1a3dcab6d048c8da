/**
 * What the clients of the legacy contract find: a running system, in it an organization with two branches, a waiter in one of them,
 * and a backend that has a key. Beside it auth as it is when things go wrong.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuthService as LegacyAuthService } from "../gen/auth/auth_service_pb.ts";
import { AccessInternalService, AccessService } from "../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import { OrganizationInternalService } from "../gen/concierge/organization/v1/organization_service_pb.ts";
import { systemClock } from "../src/clock.ts";
import { auth } from "../src/services/auth/service.ts";
import { newMember, newOwner } from "../src/services/organization/testing.ts";
import { startTestService, startTestSystem, type TestSystem } from "../src/testing/system.ts";
import { addCaller, readServiceKeys, writeSecret } from "../src/token/key-folder.ts";
import type { LegacyTarget } from "./legacy-clients.ts";

/** Held in the one branch only. */
export const PERMISSION_IN_BRANCH = "products:sell";

const PERMISSIONS_OF_MEMBERS = ["branches:read", "members:read", "organization:read"];

export interface LegacyScenario extends AsyncDisposable {
  target: LegacyTarget;
  /** Holds the key of a caller who is not on the methods' lists. */
  strangersKeysFile: string;
  /** Holds the keys of a backend that calls auth and access. */
  backendsKeysFile: string;
  /** auth without the services that it asks. */
  alone: LegacyTarget;
  /** auth with a defect in each method. */
  defective: LegacyTarget;
  /** Of the waiter, who acts in the organization. */
  accessToken: string;
  member: { user_id: string; organization_id: string };
  /** What VerifyToken and GetOrganization are to answer. */
  verified: Verified;
  organization: { id: string; name: string; plan: string; status: string; modules_enabled: string[] };
}

interface Verified {
  user_id: string;
  organization_id: string;
  email: string;
  permissions: string[];
  locals: string[];
  active: boolean;
  first_name: string;
  last_name: string;
}

/** Clients in other languages sign by the real time. */
const clock = { ...systemClock, advance: () => {} };

export async function startLegacyScenario(): Promise<LegacyScenario> {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-interop-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  await addCaller(folder, "catalog", "auth");
  for (const callee of ["auth", "access"]) await addCaller(folder, "backend-abroad", callee);
  const extraKeys = [
    ...(await readServiceKeys(folder, "catalog")),
    ...(await readServiceKeys(folder, "backend-abroad")),
  ];
  const system = opened.use(await startTestSystem({ extraKeys, clock }));
  const alone = opened.use(await startTestService(auth, { extraKeys, clock }));
  const defective = opened.use(await startTestService(withDefect(auth), { extraKeys, clock }));
  const strangersKeysFile = join(folder, "stranger.json");
  await writeSecret(strangersKeysFile, { keys: [system.keyOf("user", "auth")] });
  const targetOf = ({ internalUrl: grpcUrl, server }: TestSystem): LegacyTarget => ({
    ...{ grpcUrl, restUrl: server.restUrl!, keysFile: join(folder, "catalog.json") },
  });
  const bakery = await openBakery(system);
  const resources = opened.move();
  return {
    ...bakery,
    target: targetOf(system),
    ...{ strangersKeysFile, backendsKeysFile: join(folder, "backend-abroad.json") },
    alone: targetOf(alone),
    defective: targetOf(defective),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function withDefect(definition: typeof auth): typeof auth {
  const fails = () => {
    throw new Error("a defect");
  };
  return {
    ...definition,
    async start(context) {
      const { implementations, ...parts } = await definition.start(context);
      const others = implementations.filter(({ desc }) => desc !== LegacyAuthService);
      const methods = LegacyAuthService.methods.map(({ localName }) => [localName, fails]);
      return {
        ...parts,
        implementations: [...others, { desc: LegacyAuthService, implementation: Object.fromEntries(methods) }],
      };
    },
  };
}

async function openBakery(system: TestSystem) {
  const owner = await newOwner(system, "Bäckerei");
  const { organizationId } = owner;
  const modules_enabled = ["catalog", "orders"];
  await system
    .asService(OrganizationInternalService, "operator", "organization")
    .setPlan({ organizationId, plan: "pro", modulesEnabled: modules_enabled });
  const { branch } = await owner.client.createBranch({ name: "Harbour" });
  await owner.client.createBranch({ name: "Station" });
  const { branchId } = branch!;
  const waiter = await newMember(system, owner);
  await system
    .asService(AccessInternalService, "operator", "access")
    .createPermission({ name: PERMISSION_IN_BRANCH, description: "Sell products" });
  const access = system.asMember(AccessService, owner, organizationId);
  await access.createRole({ name: "waiter", permissions: [PERMISSION_IN_BRANCH] });
  await access.assignRole({ userId: waiter.userId, role: "waiter", branchId });
  const { email, password } = waiter;
  const { accessToken } = await system.asUser(AuthService).login({ email, password, organizationId });
  const member = { user_id: waiter.userId, organization_id: organizationId };
  const rights = { permissions: PERMISSIONS_OF_MEMBERS, locals: [branchId] };
  return {
    accessToken,
    member,
    verified: { ...member, email, ...rights, active: true, first_name: "Ann", last_name: "Lee" },
    organization: { id: organizationId, name: "Bäckerei", plan: "pro", status: "active", modules_enabled },
  };
}
