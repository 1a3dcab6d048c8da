/** What becomes of a mail that anybody may ask for: nothing in the answer, one mail at most, and nothing is lost. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import type { Sql } from "postgres";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { mailsTo, mailTo } from "../../testing/mails.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { access } from "../access/service.ts";
import { organization } from "../organization/service.ts";
import { auth } from "./service.ts";

const RESET = "Choose a new password";
const LEASE_MS = 30_000;
const HOUR_MS = 3_600_000;

describe("requests for mails", () => {
  let system: TestSystem;
  let sql: Sql;

  before(async () => {
    // An account that is deleted leaves its organizations first.
    system = await startTestSystem({ definitions: [auth, access, organization] });
    await system.server.ready;
    sql = connect(system.database("auth").ownerUrl, { applicationName: "test" });
    await sql.unsafe("create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$");
  });

  after(async () => {
    await sql.end();
    await system[Symbol.asyncDispose]();
  });

  const client = () => system.asUser(AuthService);
  const asked = () => sql`select * from mail_requests`;
  const allAnswered = () => until("the answers", async () => (await asked()).length === 0);
  const resetsOf = async (userId: string) =>
    (await sql`select 1 from mails where account_id = ${userId} and kind = 'reset_password'`).length;

  /** Until it is disposed of, nothing commits that has written such a row to this table. */
  async function refusingCommits(table: "mails" | "audit_log", accountId: string): Promise<AsyncDisposable> {
    await sql.unsafe(`
      create constraint trigger refuse after insert on ${table} deferrable initially deferred
      for each row when (new.account_id = '${accountId}') execute function refuse()`);
    return {
      async [Symbol.asyncDispose]() {
        await sql.unsafe(`drop trigger refuse on ${table}`);
      },
    };
  }

  test("S-PWD-12 who asks learns nothing: the same answer and the same row for every address, but one mail", async () => {
    const user = await system.newUser();
    const disabled = await system.newUser();
    await system.asService(AuthInternalService, "operator", "auth").disableAccount({ userId: disabled.userId });
    const unknown = `${crypto.randomUUID()}@example.com`;
    const addresses = [user.email, user.email.toUpperCase(), disabled.email, unknown, "no address"];
    const before = (await sql`select coalesce(max(id), 0)::text as id from audit_log`)[0]!.id;
    for (const email of addresses) {
      for (const call of [client().requestPasswordReset({ email }), client().resendVerification({ email })]) {
        const { $typeName, ...answer } = await call;
        assert.deepEqual(answer, {});
      }
    }
    await allAnswered();
    await until("both resets", async () => {
      return (await mailsTo(system, user.email)).filter(({ subject }) => subject === RESET).length === 2;
    });
    assert.equal((await mailsTo(system, unknown)).length, 0);
    assert.ok((await mailsTo(system, disabled.email)).every(({ subject }) => subject !== RESET));
    const written = await sql`
      select action, outcome, account_id, actor, address, request_id from audit_log where id > ${before} order by id`;
    const entries = written.map(({ action, outcome, account_id }) => [action, outcome, account_id]);
    const expected = (outcome: string, accountId: string | null) => [
      ["password_reset_asked", outcome, accountId],
      ["verification_asked", outcome, accountId],
    ];
    assert.deepEqual(
      entries.sort(),
      [
        ...[...expected("success", user.userId), ...expected("success", user.userId)],
        ...[1, 2, 3].flatMap(() => expected("refused", null)),
      ].sort(),
    );
    for (const { actor, address, request_id } of written) {
      assert.deepEqual([actor, address], ["anonymous", "127.0.0.1"]);
      assert.ok(system.logLines.some(({ requestId }) => requestId === request_id));
    }
  });

  test("three requests an hour are mailed, of 20 at once no more, of two replicas together", async () => {
    await using replica = await system.startReplica();
    await replica.ready;
    const { email, userId } = await system.newUser();
    const transport = createConnectTransport({ baseUrl: replica.publicUrl, httpVersion: "1.1" });
    const clients = [client(), createClient(AuthService, transport)];
    const ask = async () => {
      const calls = Array.from({ length: 10 }, () => clients.map((each) => each.requestPasswordReset({ email })));
      await Promise.all(calls.flat());
      await allAnswered();
    };
    await ask();
    assert.equal(await resetsOf(userId), 3);
    await system.advance(HOUR_MS + 1);
    await ask();
    assert.equal(await resetsOf(userId), 6);
    const outcomes = await sql`
      select outcome, count(*)::integer as count from audit_log
      where account_id = ${userId} and action = 'password_reset_asked' group by 1 order by 1`;
    assert.deepEqual(
      outcomes.map(({ outcome, count }) => [outcome, count]),
      [
        ["refused", 34],
        ["success", 6],
      ],
    );
  });

  for (const table of ["mails", "audit_log"] as const) {
    test(`S-LOG-06 one whose row of ${table} is not committed has no effect, holds nobody up, and is tried again`, async () => {
      const [unlucky, other] = [await system.newUser(), await system.newUser()];
      const entriesOf = async () =>
        (await sql`select 1 from audit_log where account_id = ${unlucky.userId} and action = 'password_reset_asked'`)
          .length;
      {
        await using _refusing = await refusingCommits(table, unlucky.userId);
        await client().requestPasswordReset(unlucky);
        await client().requestPasswordReset(other);
        await mailTo(system, other.email, RESET);
        const [left] = await asked();
        assert.ok(left!.next_attempt_at - left!.asked_at >= LEASE_MS);
        assert.deepEqual([await resetsOf(unlucky.userId), await entriesOf()], [0, 0]);
      }
      await system.advance(LEASE_MS + 1);
      await mailTo(system, unlucky.email, RESET);
      assert.deepEqual([await resetsOf(unlucky.userId), await entriesOf(), (await asked()).length], [1, 1, 0]);
    });
  }

  test("one that is an hour old is answered no more", async () => {
    const [late, other] = [await system.newUser(), await system.newUser()];
    await sql`
      insert into mail_requests (id, kind, email_key, address, user_agent, request_id, asked_at)
      values (gen_random_uuid(), 'reset_password', ${late.email}, '', '', '', concierge_now() - interval '61 minutes')`;
    await client().requestPasswordReset(other);
    await mailTo(system, other.email, RESET);
    assert.equal(await resetsOf(late.userId), 0);
    await sql`delete from mail_requests`;
  });

  test("none of a deleted account is left", async () => {
    const { email, password, accessToken, userId } = await system.newUser();
    await using _refusing = await refusingCommits("mails", userId);
    await client().requestPasswordReset({ email });
    await system.asUser(AuthService, accessToken).deleteMyAccount({ currentPassword: password });
    assert.deepEqual([...(await asked())], []);
  });
});
