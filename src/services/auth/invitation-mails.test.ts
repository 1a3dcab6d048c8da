/** Mails that invite: to whom, how many, and what a stranger can put into them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { mailsTo, mailTo } from "../../testing/mails.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { textOf } from "./mail-texts.ts";

const SUBJECT = "You are invited to an organization";

describe("mails of invitations", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  /** A member who may invite, of a new organization. */
  const newInviter = async (name: string) => {
    const owner = await system.newUser();
    const organizations = system.asUser(OrganizationService, owner.accessToken);
    const { organization } = await organizations.createOrganization({ name, slug: `s-${crypto.randomUUID()}` });
    const client = system.asMember(OrganizationService, owner, organization!.organizationId);
    return async (email: string) =>
      (await client.inviteMember({ email, role: MemberRole.MEMBER })).invitation!.invitationId;
  };

  test("an address gets one, whether it has an account or not, with a link that is no secret", async () => {
    const invite = await newInviter("Bäckerei & Söhne");
    const { email: known } = await system.newUser();
    for (const email of [known, `${crypto.randomUUID()}@example.com`]) {
      const invitationId = await invite(email);
      const { text, id } = await mailTo(system, email, SUBJECT);
      assert.equal(id, invitationId);
      assert.match(text, /This is the name that they gave it: "Bäckerei & Söhne"\./);
      assert.match(text, new RegExp(`^https?://\\S+/invitations/${invitationId}$`, "m"));
      assert.doesNotMatch(text, /#token/);
    }
  });

  test("no address gets more than three a day, from all organizations together", async () => {
    const inviters = [await newInviter("One"), await newInviter("Two")];
    const email = `${crypto.randomUUID()}@example.com`;
    for (let number = 0; number < 5; number++) {
      await inviters[number % 2]!(number % 2 ? email : email.toUpperCase());
    }
    // Its mail comes after those before it would have come.
    const last = `${crypto.randomUUID()}@example.com`;
    await inviters[0]!(last);
    await mailTo(system, last, SUBJECT);
    const sent = async () => [...(await mailsTo(system, email)), ...(await mailsTo(system, email.toUpperCase()))];
    assert.equal((await sent()).length, 3);
    await system.advance(86_400_000);
    const next = await newInviter("Three");
    await next(email);
    await until("another one, a day later", async () => (await sent()).length === 4);
  });
});

test("a name of an organization can carry neither a link nor anything hidden", () => {
  const textWith = (organizationName: string) =>
    textOf("organization_invitation", { address: "", at: new Date(0), link: "https://app/i", organizationName }).text;
  const hostile = [
    "Win at https://evil.example/x?y#z",
    "www.evil.example",
    "evil。example",
    "mail me@evil.example",
    "a\r\nBcc: eve@evil.example\r\n\r\nbody",
    "\u202Eelpmaxe.live\u202C",
    "<a href=//evil.example>x</a>",
    "x".repeat(500),
  ];
  for (const name of hostile) {
    const said = /gave it: "(.*)"\.$/m.exec(textWith(name))?.[1];
    assert.ok(said !== undefined && said.length <= 100, name);
    assert.match(said, /^[\p{L}\p{M}\p{N} '’&,()+-]*$/u, name);
    assert.equal(textWith(name).split("\n").length, textWith("Bakery").split("\n").length, name);
  }
  assert.match(textWith("Zoë's Café, Bar & Grill (Nord)"), /"Zoë's Café, Bar & Grill \(Nord\)"/);
});
