/** The contract of before: its bytes never change, and whoever cannot be told about is never told to have nothing. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  CheckPermissionRequestSchema,
  CheckPermissionResponseSchema,
  GetOrganizationRequestSchema,
  GetOrganizationResponseSchema,
  GetUserLocalsRequestSchema,
  GetUserLocalsResponseSchema,
  GetUserPermissionsRequestSchema,
  GetUserPermissionsResponseSchema,
  AuthService as LegacyAuthService,
  VerifyTokenRequestSchema,
  VerifyTokenResponseSchema,
} from "../../../gen/auth/auth_service_pb.ts";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { addMember, makeOrganization, openBranch, suspend } from "../../testing/memberships.ts";
import { refusalOf } from "../../testing/refusals.ts";
import { startTestService, startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "./service.ts";

const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";
const NO_USER = "NotFound USER_NOT_FOUND";
const NO_ORGANIZATION = "NotFound ORGANIZATION_NOT_FOUND";
const AUTH_STALE = "Unavailable AUTH_STALE";

function golden<Desc extends DescMessage>(desc: Desc, message: MessageInitShape<Desc>, hex: string) {
  return { desc: desc as DescMessage, message: message as MessageInitShape<DescMessage>, hex };
}

const member = { userId: "u1", organizationId: "o1" };
/** Made by hand from the field numbers that programs have compiled in. */
const GOLDEN = [
  golden(VerifyTokenRequestSchema, { token: "token" }, "0a05746f6b656e"),
  golden(
    VerifyTokenResponseSchema,
    {
      ...member,
      email: "e@x",
      permissions: ["a:b", "c:d"],
      locals: ["l1", "l2"],
      active: true,
      firstName: "Ann",
      lastName: "Lee",
    },
    "0a02753112026f311a03654078" + "2203613a622203633a64" + "2a026c312a026c32" + "3001" + "3a03416e6e42034c6565",
  ),
  golden(GetUserPermissionsRequestSchema, member, "0a02753112026f31"),
  golden(
    GetUserPermissionsResponseSchema,
    { permissions: ["a:b", "c:d"], locals: ["l1"] },
    "0a03613a620a03633a6412026c31",
  ),
  golden(GetUserLocalsRequestSchema, member, "0a02753112026f31"),
  golden(GetUserLocalsResponseSchema, { localIds: ["l1", "l2"] }, "0a026c310a026c32"),
  golden(CheckPermissionRequestSchema, { ...member, permission: "a:b" }, "0a02753112026f311a03613a62"),
  golden(CheckPermissionResponseSchema, { hasPermission: true }, "0801"),
  golden(GetOrganizationRequestSchema, { organizationId: "o1" }, "0a026f31"),
  golden(
    GetOrganizationResponseSchema,
    { id: "o1", name: "Bakery", plan: "free", status: "active", modulesEnabled: ["m1", "m2"] },
    "0a026f31120642616b6572791a046672656522066163746976652a026d312a026d32",
  ),
];

for (const { desc, message, hex } of GOLDEN) {
  test(`S-API-18 C1 the bytes of ${desc.typeName} are those of before, read and written`, () => {
    const made = create(desc, message);
    assert.equal(Buffer.from(toBinary(desc, made)).toString("hex"), hex);
    assert.deepEqual(fromBinary(desc, Buffer.from(hex, "hex")), made);
  });
}

test("S-API-18 no message of before has got a number below 9", () => {
  const known = new Map(GOLDEN.map(({ desc, message }) => [desc.typeName, Object.keys(message!).length]));
  for (const { input, output } of LegacyAuthService.methods) {
    for (const { typeName, fields } of [input, output]) {
      const old = fields.filter(({ number }) => number < 9);
      assert.equal(old.length, known.get(typeName), typeName);
    }
  }
});

describe("the contract of before", () => {
  let system: TestSystem;
  let owner: TestUser;
  let clerk: TestUser;
  let organizationId: string;
  let branchId: string;

  before(async () => {
    system = await startTestSystem();
    [owner, clerk] = [await system.newUser(), await system.newUser()];
    organizationId = await makeOrganization(system, owner);
    const owned = { system, owner, organizationId };
    await addMember(owned, clerk);
    ({ branchId } = await openBranch(owned));
    const access = system.asMember(AccessService, owner, organizationId);
    await access.createRole({ name: "cashier", permissions: ["branches:update"] });
    await access.assignRole({ userId: clerk.userId, role: "cashier", branchId });
    await until("the role is known", async () => (await localsOf(clerk)).length === 1);
  });
  after(() => system[Symbol.asyncDispose]());

  const legacy = () => system.asService(LegacyAuthService, "backend", "auth");
  const localsOf = async ({ userId }: { userId: string }) =>
    (await legacy().getUserLocals({ userId, organizationId })).localIds;

  async function tokenOf(user: TestUser): Promise<string> {
    const { email, password } = user;
    return (await system.asUser(AuthService).login({ email, password, organizationId })).accessToken;
  }

  test("C1 VerifyToken tells the whole organization's permissions, and the branches, apart", async () => {
    const answer = await legacy().verifyToken({ token: await tokenOf(clerk) });
    const { userId, email } = clerk;
    const { permissions, locals, localPermissions, active, firstName, lastName } = answer;
    assert.deepEqual([answer.userId, answer.organizationId, answer.email], [userId, organizationId, email]);
    assert.deepEqual([active, firstName, lastName], [true, "Ann", "Lee"]);
    assert.deepEqual(permissions, ["branches:read", "members:read", "organization:read"]);
    assert.deepEqual(locals, [branchId]);
    assert.deepEqual(
      localPermissions.map((each) => [each.localId, each.permissions]),
      [[branchId, ["branches:update"]]],
    );
  });

  test("C1 GetUserPermissions, GetUserLocals and CheckPermission never widen a branch's permission", async () => {
    const { userId } = clerk;
    const { permissions, locals } = await legacy().getUserPermissions({ userId, organizationId });
    assert.deepEqual([permissions.includes("branches:update"), locals], [false, [branchId]]);
    const check = async (user: TestUser, permission: string) =>
      (await legacy().checkPermission({ userId: user.userId, organizationId, permission })).hasPermission;
    assert.equal(await check(clerk, "branches:read"), true);
    assert.equal(await check(clerk, "branches:update"), false);
    assert.equal(await check(owner, "branches:update"), true);
    assert.equal(await check(owner, "nobody:knows"), false);
  });

  test("GetOrganization tells name, plan, status and modules", async () => {
    const { $typeName: _, ...organization } = await legacy().getOrganization({ organizationId });
    const expected = { id: organizationId, name: "Bakery", plan: "free", status: "active", modulesEnabled: [] };
    assert.deepEqual(organization, expected);
    const other = await makeOrganization(system, owner);
    await suspend({ system, owner, organizationId: other });
    assert.equal((await legacy().getOrganization({ organizationId: other })).status, "suspended");
  });

  test("C13 whoever is unknown or foreign is not found, and so is what is no id", async () => {
    const stranger = await system.newUser();
    const permission = "branches:read";
    const refusalsOf = async (userId: string, id: string) => {
      const subject = { userId, organizationId: id };
      const calls = [
        legacy().getUserPermissions(subject),
        legacy().getUserLocals(subject),
        legacy().checkPermission({ ...subject, permission }),
      ];
      return new Set(await Promise.all(calls.map(refusalOf)));
    };
    for (const userId of [stranger.userId, crypto.randomUUID(), "", "x", "1' or '1'='1"]) {
      assert.deepEqual(await refusalsOf(userId, organizationId), new Set([NO_USER]), userId);
    }
    for (const id of [crypto.randomUUID(), "", "x"]) {
      assert.deepEqual(await refusalsOf(owner.userId, id), new Set([NO_ORGANIZATION]), id);
      assert.equal(await refusalOf(legacy().getOrganization({ organizationId: id })), NO_ORGANIZATION);
    }
  });

  test("tokens of up to 50 MiB are read, and refused as tokens", async () => {
    for (const token of ["", "x", "x".repeat(10 * 1024 * 1024)]) {
      assert.equal(await refusalOf(legacy().verifyToken({ token })), UNAUTHENTICATED);
    }
    const tooLong = "x".repeat(50 * 1024 * 1024);
    assert.equal(await refusalOf(legacy().verifyToken({ token: tooLong })), "ResourceExhausted MESSAGE_TOO_LARGE");
  });

  test("other services of ours do not speak it", async () => {
    const asUser = system.asService(LegacyAuthService, "user", "auth");
    assert.equal(await refusalOf(asUser.verifyToken({ token: "x" })), "PermissionDenied CALLER_NOT_ALLOWED");
  });
});

test("C21 while access and organization are away the contract of before says so", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  const legacy = system.asService(LegacyAuthService, "backend", "auth");
  const subject = { userId: crypto.randomUUID(), organizationId: crypto.randomUUID() };
  assert.equal(await refusalOf(legacy.getUserPermissions(subject)), AUTH_STALE);
  assert.equal(await refusalOf(legacy.getUserLocals(subject)), AUTH_STALE);
  assert.equal(await refusalOf(legacy.checkPermission({ ...subject, permission: "a:b" })), AUTH_STALE);
  assert.equal(await refusalOf(legacy.getOrganization(subject)), AUTH_STALE);
});
