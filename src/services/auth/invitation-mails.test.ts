/** Mails that invite: to whom, how many, and what a stranger can put into them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { openDatabase } from "../../db/database.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { mailsTo, mailTo } from "../../testing/mails.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { textOf } from "./mail-texts.ts";
import { takeMails } from "./mails.ts";

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
      await inviters[number % 2]!(email.replace("@", `+${number}@`));
    }
    // Its mail comes after those before it would have come.
    const last = `${crypto.randomUUID()}@example.com`;
    await inviters[0]!(last);
    await mailTo(system, last, SUBJECT);
    const spellings = [email, email.toUpperCase(), ...[0, 1, 2, 3, 4].map((tag) => email.replace("@", `+${tag}@`))];
    const sent = async () => (await Promise.all(spellings.map((to) => mailsTo(system, to)))).flat();
    assert.equal((await sent()).length, 3);
    await system.advance(86_400_000);
    const next = await newInviter("Three");
    await next(email);
    await until("another one, a day later", async () => (await sent()).length === 4);
  });
});

test("however many wait, mails of accounts are sent before them", async () => {
  await using opened = new AsyncDisposableStack();
  const { ownerUrl, runtimeUrl } = opened.use(await testDatabase(["platform", "auth"]));
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 2, applicationName: "test" }));
  const sql = connect(ownerUrl, { applicationName: "test" });
  opened.defer(() => sql.end());
  await sql`
    insert into mails (id, kind, recipient, address, key_id, credential_version, next_attempt_at)
    select gen_random_uuid(), case when n = 30 then 'verify_email' else 'organization_invitation' end, 'ann@example.com',
      '', 'a', 0, concierge_now() - make_interval(mins => 31 - n) from generate_series(1, 30) n`;
  const take = (limit: number) => takeMails(db, { limit, leaseSeconds: 60, giveUpSeconds: 86_400 });
  assert.deepEqual(
    (await take(1)).map(({ kind }) => kind),
    ["verify_email"],
  );
  assert.equal((await take(30)).length, 29);
});

test("a deleted account takes its invitations along, and no others of the same inbox", async () => {
  await using system = await startTestSystem();
  const user = await system.newUser({ email: `ann+own-${crypto.randomUUID()}@example.com` });
  const emails = [user.email.toUpperCase(), user.email.replace("own", "other")];
  const sql = connect(system.database("auth").ownerUrl, { applicationName: "test" });
  for (const email of emails) {
    await sql`
      insert into mails (id, kind, recipient, recipient_key, address, key_id, credential_version)
      values (gen_random_uuid(), 'organization_invitation', ${email}, 'ann@example.com', '', 'a', 0)`;
  }
  await system.asUser(AuthService, user.accessToken).deleteMyAccount({ currentPassword: user.password });
  const left = await sql`select recipient from mails where recipient_key is not null`;
  await sql.end();
  assert.deepEqual(
    left.map(({ recipient }) => recipient),
    [emails[1]],
  );
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
