/** What has changed counts at once for whoever knows of it, on every replica; and soon for all others. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { Code } from "../../errors.ts";
import { revision, toConsistencyToken } from "../../rights/revisions.ts";
import { answered } from "../../testing/access-model.ts";
import { type AccessSetting, openAccessSetting } from "../../testing/access-setting.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { until } from "../../testing/until.ts";
import { formatCompact } from "../../token/compact.ts";
import { createSigner } from "../../token/signing-keys.ts";
import { organization } from "../organization/service.ts";
import { newMember, newOwner } from "../organization/testing.ts";
import { because } from "./testing.ts";

describe("consistency", () => {
  let setting: AccessSetting;

  before(async () => {
    setting = await openAccessSetting();
    await setting.join(setting.people[1]!);
  });

  after(() => setting[Symbol.asyncDispose]());

  const knowing = (consistencyToken: string) => ({ headers: { "consistency-token": consistencyToken } });

  test("S-TEN-15 R-CON-01 a check with the token of a grant or a revocation is never stale, on any replica: 100 rounds", async () => {
    const { access, replicas, organizationId, people } = setting;
    const { userId } = people[1]!;
    const permission = "things:do";
    for (let round = 0; round < 100; round++) {
      const isGiven = round % 2 === 0;
      const call = isGiven ? access.grantPermission : access.revokePermission;
      const { consistencyToken } = await call({ userId, permission });
      const checks = replicas.map((replica) =>
        answered(() => replica.checkPermission({ userId, organizationId, permission }, knowing(consistencyToken))),
      );
      for (const { allowed } of await Promise.all(checks)) assert.equal(allowed, isGiven, `round ${round}`);
    }
  });

  test("without a token, a revocation counts everywhere soon", async () => {
    const { access, replicas, organizationId, people } = setting;
    const { userId } = people[1]!;
    const permission = "things:do";
    const allowed = async () => {
      const answers = replicas.map((replica) => replica.checkPermission({ userId, organizationId, permission }));
      return (await Promise.all(answers)).map((answer) => answer.allowed);
    };
    await access.grantPermission({ userId, permission });
    await until("the grant is known", async () => (await allowed()).every(Boolean));
    await access.revokePermission({ userId, permission });
    await until("the revocation is known", async () => !(await allowed()).some(Boolean));
  });

  test("a token that cannot be read is refused", async () => {
    const { replicas, organizationId, people } = setting;
    const check = { userId: people[0]!.userId, organizationId, permission: "things:do" };
    for (const replica of replicas) {
      await assert.rejects(replica.checkPermission(check, knowing("rubbish")), because("INVALID_CONSISTENCY_TOKEN"));
    }
    const member = setting.access.listRoles({}, knowing("rubbish"));
    await assert.rejects(member, because("INVALID_CONSISTENCY_TOKEN"));
  });

  test("a token of what has not happened is refused at once, by access and by who asks it; the next question is answered", async () => {
    const { access, replicas, organizationId, people } = setting;
    const check = { userId: people[0]!.userId, organizationId, permission: "things:do" };
    for (const service of ["access", "organization"]) {
      const made = knowing(toConsistencyToken(revision(service, organizationId, 1n << 60n)));
      for (const replica of replicas) {
        await assert.rejects(replica.checkPermission(check, made), because("INVALID_CONSISTENCY_TOKEN"));
        await answered(() => replica.checkPermission(check));
      }
      await assert.rejects(access.listRoles({}, made), because("INVALID_CONSISTENCY_TOKEN"));
      const owner = await newOwner(setting.system);
      const own = knowing(toConsistencyToken(revision(service, owner.organizationId, 1n << 60n)));
      await assert.rejects(owner.client.listMembers({}, own), because("INVALID_CONSISTENCY_TOKEN"));
      await owner.client.listMembers({});
    }
  });

  test("S-JWT-26 what a token says of roles and permissions gives nothing, before a demotion or after it", async () => {
    const { system } = setting;
    const owner = await newOwner(system);
    const admin = await newMember(system, owner, MemberRole.ADMIN);
    const signer = createSigner(system.signingKeys);
    const [, payload] = admin.accessToken.split(".");
    const claims = JSON.parse(Buffer.from(payload!, "base64url").toString());
    const boasting = {
      ...claims,
      org: owner.organizationId,
      roles: ["owner"],
      permissions: ["roles:read", "*"],
      role: "owner",
    };
    const token = formatCompact({ alg: signer.alg, typ: "at+jwt", kid: signer.kid }, boasting, signer.sign);
    const access = system.asUser(AccessService, token);
    await access.listRoles({});
    const { consistencyToken } = await owner.client.changeMemberRole({ userId: admin.userId, role: MemberRole.MEMBER });
    await assert.rejects(access.listRoles({}, knowing(consistencyToken)), because("PERMISSION_MISSING"));
    await until("the demotion is known", async () => {
      return access.listRoles({}).then(
        () => false,
        (error) => because("PERMISSION_MISSING")(error),
      );
    });
  });

  test("S-TEN-22 who is removed while access is down holds nothing: organization's own word is enough", async () => {
    const { system } = setting;
    const owner = await newOwner(system);
    const member = await newMember(system, owner);
    const { hostname: host, port } = new URL(system.internalUrl);
    await using edge = await startFaultProxy({ host, port: Number(port) });
    const urls = { CONCIERGE_ORGANIZATION_ACCESS_URL: edge.url, CONCIERGE_ORGANIZATION_AUTH_URL: system.internalUrl };
    await using replica = await system.startReplica(urls, [organization]);
    await replica.ready;
    const listed = (user: typeof member) => {
      return system.asMember(OrganizationService, user, user.organizationId, replica).listMembers({});
    };
    // Whoever begins to follow forgets what was known.
    await until("it follows both", async () => {
      const headers = { connection: "close" };
      const text = await (await fetch(`${replica.internalUrl}/metrics`, { headers })).text();
      return ["access", "organization"].every((source) =>
        new RegExp(`^feed_age_seconds\\{service="organization",source="${source}"\\} \\d`, "m").test(text),
      );
    });
    await listed(member);
    await listed(owner);
    edge.cut();
    await owner.client.removeMember({ userId: member.userId });
    const refused = await until("the removal is known", async () => {
      return listed(member).then(
        () => undefined,
        (error) => error,
      );
    });
    assert.equal(refused.code, Code.Unavailable);
    await listed(owner);
    await edge.heal();
    await until("the replica knows why", async () => {
      return listed(member).then(
        () => false,
        (error) => error.code === Code.PermissionDenied,
      );
    });
  });
});
