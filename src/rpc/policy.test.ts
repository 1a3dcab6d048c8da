/**
 * The policy of every method that people call, as generated from the contract: who is let in, and that nobody sees or changes anything
 * of an organization that is not the one the access token names, whatever ids the request has.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  getOption,
} from "@bufbuild/protobuf";
import { type CallOptions, ConnectError } from "@connectrpc/connect";
import { access as accessOption } from "../../gen/concierge/options/v1/access_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationInternalService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { notificationSender } from "../services/notification-sender/service.ts";
import { services } from "../services.ts";
import { newOrganization, type TestOrganization } from "../testing/organizations.ts";
import { assertNoStateChange } from "../testing/state.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../testing/system.ts";
import { signAccessToken } from "../token/access-token.ts";
import { createSigner } from "../token/signing-keys.ts";
import { sideOf } from "./access.ts";

// The sender keeps asking for work, which spends tokens: nothing would ever be at rest.
const definitions = services.filter((definition) => definition !== notificationSender);
const DATABASES = definitions.filter(({ hasDatabase }) => hasDatabase).map(({ name }) => name);
const methods = definitions.flatMap((definition) =>
  definition.services.filter((desc) => sideOf(desc) === "public").flatMap((desc) => desc.methods),
);
const unaryMethods = methods.filter(({ methodKind }) => methodKind === "unary");
const ruleOf = (method: DescMethod) => getOption(method, accessOption).who;
const nameOf = ({ parent, name }: DescMethod) => `${parent.name}/${name}`;

/** What a valid call with ids of one's own looks like. Every method that takes an id has one: a new one without fails below. */
const OWN: Record<string, (own: TestOrganization) => Record<string, unknown>> = {
  "AccessService/AssignRole": ({ member, branchId }) => ({ userId: member.userId, role: "cashier", branchId }),
  "AccessService/ExplainPermission": ({ member, branchId }) => ({
    ...{ userId: member.userId, branchId },
    permission: "branches:read",
  }),
  "AccessService/GrantPermission": ({ member, branchId }) => ({
    ...{ userId: member.userId, branchId },
    permission: "branches:read",
  }),
  "AccessService/ListAssignments": ({ member }) => ({ userId: member.userId }),
  "AccessService/RevokePermission": ({ member, branchId }) => ({
    ...{ userId: member.userId, branchId },
    permission: "branches:read",
  }),
  "AccessService/UnassignRole": ({ member, branchId }) => ({ userId: member.userId, role: "cashier", branchId }),
  "AuthService/EndSession": ({ owner }) => ({ sessionId: owner.sessionId }),
  "NotificationService/MarkReceived": () => ({ notificationId: crypto.randomUUID() }),
  "NotificationService/RemoveDevice": () => ({ deviceId: crypto.randomUUID() }),
  "OrganizationService/AcceptInvitation": ({ invitationId }) => ({ invitationId }),
  "OrganizationService/ChangeMemberRole": ({ member }) => ({ userId: member.userId, role: MemberRole.ADMIN }),
  "OrganizationService/CloseBranch": ({ branchId }) => ({ branchId }),
  "OrganizationService/DeclineInvitation": ({ invitationId }) => ({ invitationId }),
  "OrganizationService/LeaveOrganization": ({ organizationId }) => ({ organizationId }),
  "OrganizationService/RemoveMember": ({ member }) => ({ userId: member.userId }),
  "OrganizationService/RenameBranch": ({ branchId }) => ({ branchId, name: "Side street" }),
  "OrganizationService/RevokeInvitation": ({ invitationId }) => ({ invitationId }),
  "OrganizationService/TransferOwnership": ({ member }) => ({ userId: member.userId }),
  "UserService/GetUser": ({ member }) => ({ userId: member.userId }),
  "UserService/UpdateUser": ({ member }) => ({
    ...{ userId: member.userId, firstName: "Eve" },
    updateMask: { paths: ["first_name"] },
  }),
};
/** Methods that take an id of something that everybody may name, or that stands in for no login. */
const OPEN = ["AuthService/Login", "AuthService/RefreshToken", "UserService/GetArtist"];

/** The same things of another organization, by the names of fields. */
const THEIRS: Record<string, (theirs: TestOrganization) => string> = {
  userId: ({ member }) => member.userId,
  branchId: ({ branchId }) => branchId,
  invitationId: ({ invitationId }) => invitationId,
  organizationId: ({ organizationId }) => organizationId,
  sessionId: ({ owner }) => owner.sessionId,
  notificationId: () => crypto.randomUUID(),
  deviceId: () => crypto.randomUUID(),
};

const idFields = (method: DescMethod) => method.input.fields.filter(({ name }) => name.endsWith("_id"));

describe("the policy of public methods", () => {
  let system: TestSystem;
  let ours: TestOrganization;
  let theirs: TestOrganization;
  let suspended: TestOrganization;

  before(async () => {
    system = await startTestSystem({ definitions });
    ours = await newOrganization(system, "ours");
    theirs = await newOrganization(system, "theirs");
    suspended = await newOrganization(system, "suspended");
    const backend = system.asService(OrganizationInternalService, "backend", "organization");
    await backend.suspendOrganization({ organizationId: suspended.organizationId });
    await settle();
  });

  after(() => system[Symbol.asyncDispose]());

  const unchanged = (act: () => Promise<void>) => assertNoStateChange(system, act, DATABASES);

  /** One call for each thing that projections have to hear of, so that nothing arrives in the middle of a test. */
  async function settle(): Promise<void> {
    for (;;) {
      try {
        return await assertNoStateChange(system, () => new Promise((done) => setTimeout(done, 300)), DATABASES);
      } catch {
        // something was still on its way
      }
    }
  }

  function tokenOf({ userId, sessionId }: TestUser, organizationId?: string, audience?: string): string {
    const nowSeconds = Math.floor(system.clock.now() / 1_000);
    const times = { authenticatedAt: nowSeconds, expiresAt: nowSeconds + 300 };
    const claims = { userId, sessionId, organizationId, generation: 0, ...times };
    const issuer = "http://127.0.0.1:8080";
    return signAccessToken(createSigner(system.signingKeys), { issuer, clock: system.clock }, claims, audience);
  }

  /** How a call ends: its answer, or code, reason and message of its refusal. */
  async function outcomeOf(method: DescMethod, token: string | undefined, message: object = {}): Promise<object> {
    const client = system.asUser(method.parent as DescService, token) as unknown as Record<
      string,
      (message: object, options?: CallOptions) => Promise<object>
    >;
    try {
      return { answer: JSON.stringify(await client[method.localName]!(message), (_, value) => String(value) && value) };
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      return { code: Code[error.code], reason: reasonOf(error), message: error.rawMessage };
    }
  }

  test("S-JWT-13 S-TEN-13 without a token, or with one for another audience, nobody gets into a method for people", async () => {
    await unchanged(async () => {
      for (const method of unaryMethods) {
        if (ruleOf(method).case === "public") continue;
        for (const token of [undefined, tokenOf(ours.owner, ours.organizationId, "elsewhere")]) {
          const { reason } = (await outcomeOf(method, token)) as { reason?: string };
          assert.equal(reason, "UNAUTHENTICATED", nameOf(method));
        }
      }
    });
  });

  test("S-TEN-02 S-JWT-25 a permission takes an organization, a membership, and that it is active", async () => {
    const [stranger, owner] = [theirs.owner, ours.owner];
    const cases: [what: string, token: string, reason: string][] = [
      ["no organization", tokenOf(owner), "NO_ORGANIZATION"],
      ["no member", tokenOf(stranger, ours.organizationId), "PERMISSION_MISSING"],
      ["no such organization", tokenOf(owner, crypto.randomUUID()), "PERMISSION_MISSING"],
      ["suspended", tokenOf(suspended.owner, suspended.organizationId), "PERMISSION_MISSING"],
    ];
    let refused = 0;
    await unchanged(async () => {
      for (const method of unaryMethods) {
        if (ruleOf(method).case !== "permission") continue;
        for (const [what, token, reason] of cases) {
          const outcome = (await outcomeOf(method, token)) as { code?: string; reason?: string };
          assert.deepEqual([outcome.code, outcome.reason], ["PermissionDenied", reason], `${nameOf(method)}: ${what}`);
          refused += 1;
        }
      }
    });
    assert.ok(refused > 80, `${refused} calls`);
  });

  test("a member gets into the methods of a member, and into none of an admin or owner", async () => {
    const held = ["organization:read", "members:read", "branches:read", "branches:create"];
    await unchanged(async () => {
      for (const method of unaryMethods) {
        const rule = ruleOf(method);
        if (rule.case !== "permission" || held.includes(rule.value.name)) continue;
        const { reason } = (await outcomeOf(method, tokenOf(ours.member, ours.organizationId))) as { reason?: string };
        assert.equal(reason, "PERMISSION_MISSING", nameOf(method));
      }
    });
  });

  test("an owner gets into every method with a permission", async () => {
    for (const method of unaryMethods) {
      if (ruleOf(method).case !== "permission" || nameOf(method).endsWith("/DeleteOrganization")) continue;
      // Most of them refuse the empty message, which is after the decision about the caller.
      const { reason } = (await outcomeOf(method, tokenOf(ours.owner, ours.organizationId))) as { reason?: string };
      assert.ok(!["PERMISSION_MISSING", "NO_ORGANIZATION", "UNAUTHENTICATED"].includes(String(reason)), nameOf(method));
    }
  });

  test("S-TEN-01 every method that takes an id is known here", () => {
    const taking = methods.filter((method) => idFields(method).length > 0).map(nameOf);
    assert.deepEqual(taking.filter((name) => !OPEN.includes(name)).sort(), Object.keys(OWN).sort());
    for (const method of methods) {
      for (const { localName } of idFields(method)) assert.ok(localName in THEIRS, `${nameOf(method)}: ${localName}`);
    }
  });

  test("S-TEN-01 an id of another organization is the same as one of nothing, in every method that takes one", async () => {
    let tried = 0;
    await unchanged(async () => {
      for (const method of unaryMethods as DescMethodUnary<DescMessage, DescMessage>[]) {
        const own = OWN[nameOf(method)];
        if (!own) continue;
        const token = tokenOf(ours.owner, ours.organizationId);
        for (const { localName } of idFields(method)) {
          const foreign = await outcomeOf(method, token, { ...own(ours), [localName]: THEIRS[localName]!(theirs) });
          const nothing = await outcomeOf(method, token, { ...own(ours), [localName]: crypto.randomUUID() });
          assert.deepEqual(foreign, nothing, `${nameOf(method)}: ${localName}`);
          tried += 1;
        }
      }
    });
    assert.ok(tried >= Object.keys(OWN).length, `${tried} fields`);
  });
});
