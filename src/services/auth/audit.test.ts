/** What is written down: every action, once, in the transaction of what it tells of. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { hash } from "argon2";
import type { Sql } from "postgres";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { mailsTo, mailTo, tokenIn } from "../../testing/mails.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { createSigningKeys } from "../../token/key-making.ts";
import { organization } from "../organization/service.ts";
import { AUDIT_ACTIONS, type AuditAction } from "./audit.ts";
import { auth } from "./service.ts";

interface Entry {
  action: AuditAction;
  outcome: string;
  reason: string;
  account_id: string | null;
  session_id: string | null;
  actor: string;
  address: string;
  user_agent: string;
  request_id: string;
}

type Expected = Pick<Entry, "action"> & Partial<Entry>;

/** Makes what is needed, and says which call writes what; beside it, unless it is said, it changes something. */
type Arrange = () => Promise<{ act: () => Promise<unknown>; writes: Expected[]; changesNothing?: boolean }>;

/** See mail-requests.test.ts. */
const WRITTEN_BY_A_JOB: AuditAction[] = ["verification_asked", "password_reset_asked"];
const VERIFY = "Confirm your e-mail address";
const RESET = "Choose a new password";

describe("the audit log", () => {
  let system: TestSystem;
  let owner: Sql;

  const client = (accessToken?: string) => system.asUser(AuthService, accessToken);
  const operator = () => system.asService(AuthInternalService, "operator", "auth");
  const byOperator = { actor: "operator operator" };

  before(async () => {
    const [first, second] = await Promise.all([createSigningKeys("ES256"), createSigningKeys("ES256")]);
    // The last one can be removed.
    system = await startTestSystem({
      definitions: [auth, organization],
      signingKeys: { keys: [...first.keys, ...second.keys] },
    });
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
    await owner.unsafe(`
      create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$`);
  });

  after(async () => {
    await owner.end();
    await system[Symbol.asyncDispose]();
  });

  /** Lets no transaction commit that has written to one of these tables. */
  async function refusingCommits(tables: string[], act: () => Promise<unknown>): Promise<void> {
    for (const table of tables) {
      await owner.unsafe(`
        create constraint trigger refuse after insert or update on ${table} deferrable initially deferred
        for each row execute function refuse()`);
    }
    await assert.rejects(act());
    for (const table of tables) await owner.unsafe(`drop trigger refuse on ${table}`);
  }

  async function everything(): Promise<string[]> {
    const tables = [
      "credentials",
      "sessions",
      "refresh_tokens",
      "device_tokens",
      "removed_keys",
      "audit_log",
      "accounts",
    ];
    const rows = tables.map((table) => owner`select to_jsonb(t)::text as row from ${owner(table)} t order by 1`);
    const events = await owner`select id::text as row from feed_outbox order by id`;
    return [...(await Promise.all(rows)).flat(), ...events].map(({ row }) => row);
  }

  const entriesAfter = (id: string) => owner<Entry[]>`select * from audit_log where id > ${id} order by id`;
  const newestEntry = async () => (await owner`select coalesce(max(id), 0)::text as id from audit_log`)[0]!.id;

  const cases: Record<string, Arrange> = {
    async "a registration"() {
      const email = `${crypto.randomUUID()}@example.com`;
      const act = () => client().registerUser({ email, password: "a fine password" });
      return { act, writes: [{ action: "account_registered", actor: "anonymous" }] };
    },
    async "a login"() {
      const { email, password, userId: account_id } = await system.newUser();
      const act = () => client().login({ email, password });
      return { act, writes: [{ action: "login", account_id, actor: "anonymous" }] };
    },
    async "a login with a weaker hash"() {
      const { email, password, userId: account_id } = await system.newUser();
      const weak = await hash(password, { memoryCost: 8_192, timeCost: 2, parallelism: 1 });
      await owner`update credentials set password_hash = ${weak} where account_id = ${account_id}`;
      const act = () => client().login({ email, password });
      const writes: Expected[] = [{ action: "login" }, { action: "password_rehashed", account_id }];
      return { act, writes };
    },
    async "a wrong password"() {
      const { email, userId: account_id } = await system.newUser();
      const act = () => client().login({ email, password: "wrong" });
      return { act, writes: [{ action: "login", account_id, outcome: "refused", reason: "bad_credentials" }] };
    },
    async "a login to an account that does not exist"() {
      const act = () => client().login({ email: "nobody@example.com", password: "wrong" });
      return { act, writes: [{ action: "login", account_id: null, outcome: "refused", reason: "bad_credentials" }] };
    },
    async "a login to a disabled account"() {
      const { email, password, userId: account_id } = await system.newUser();
      await operator().disableAccount({ userId: account_id });
      const act = () => client().login({ email, password });
      return { act, writes: [{ action: "login", account_id, outcome: "refused", reason: "bad_credentials" }] };
    },
    async "a changed password"() {
      const { password, accessToken, userId: account_id } = await system.newUser();
      const change = { currentPassword: password, newPassword: "a new password" };
      const act = () => client(accessToken).changePassword(change);
      return { act, writes: [{ action: "password_changed", account_id, actor: `user ${account_id}` }] };
    },
    async "a wrong current password"() {
      const { accessToken, userId: account_id } = await system.newUser();
      const change = { currentPassword: "wrong", newPassword: "a new password" };
      const act = () => client(accessToken).changePassword(change);
      const writes: Expected[] = [
        { action: "password_changed", account_id, outcome: "refused", reason: "bad_credentials" },
      ];
      return { act, writes };
    },
    async "a logout"() {
      const { refreshToken, userId: account_id, sessionId: session_id } = await system.newUser();
      const act = () => client().logout({ refreshToken });
      return { act, writes: [{ action: "session_ended", reason: "logout", account_id, session_id }] };
    },
    async "a session ended by its owner"() {
      const { accessToken, userId: account_id, sessionId: session_id } = await system.newUser();
      const act = () => client(accessToken).endSession({ sessionId: session_id });
      return { act, writes: [{ action: "session_ended", account_id, session_id, actor: `user ${account_id}` }] };
    },
    async "other sessions ended by their owner"() {
      const { email, password, accessToken, userId: account_id } = await system.newUser();
      await client().login({ email, password });
      const act = () => client(accessToken).endOtherSessions({});
      return { act, writes: [{ action: "sessions_ended", account_id, actor: `user ${account_id}` }] };
    },
    async "sessions ended by an operator"() {
      const { userId: account_id } = await system.newUser();
      const act = () => operator().endUserSessions({ userId: account_id });
      return { act, writes: [{ action: "sessions_ended", account_id, ...byOperator }] };
    },
    async "an account disabled"() {
      const { userId: account_id } = await system.newUser();
      const act = () => operator().disableAccount({ userId: account_id });
      return { act, writes: [{ action: "account_disabled", account_id, ...byOperator }] };
    },
    async "an account enabled"() {
      const { userId: account_id } = await system.newUser();
      await operator().disableAccount({ userId: account_id });
      const act = () => operator().enableAccount({ userId: account_id });
      return { act, writes: [{ action: "account_enabled", account_id, ...byOperator }] };
    },
    async "people brought from elsewhere"() {
      const passwordHash = await hash("a fine password", { memoryCost: 8_192, timeCost: 2, parallelism: 1 });
      const users = [{ email: `${crypto.randomUUID()}@example.com`, passwordHash }];
      const act = () => operator().importUsers({ users });
      return { act, writes: [{ action: "account_imported", ...byOperator }] };
    },
    async "an account deleted"() {
      const { password, accessToken, userId: account_id } = await system.newUser();
      const act = () => client(accessToken).deleteMyAccount({ currentPassword: password });
      return { act, writes: [{ action: "account_deleted", account_id, actor: `user ${account_id}` }] };
    },
    async "an export"() {
      const { accessToken, userId: account_id } = await system.newUser();
      const act = () => client(accessToken).exportMyData({});
      return { act, writes: [{ action: "data_exported", account_id }], changesNothing: true };
    },
    async "an address verified"() {
      const { email, password, userId: account_id } = await system.newUser();
      const token = tokenIn((await mailTo(system, email, VERIFY)).text);
      const act = () => client().verifyEmail({ token, password });
      return { act, writes: [{ action: "email_verified", account_id }] };
    },
    async "another address asked for"() {
      const { password, accessToken, userId: account_id } = await system.newUser();
      const change = { newEmail: `${crypto.randomUUID()}@example.com`, currentPassword: password };
      const act = () => client(accessToken).changeEmail(change);
      return { act, writes: [{ action: "email_change_asked", account_id, actor: `user ${account_id}` }] };
    },
    async "an address changed"() {
      const { password, accessToken, userId: account_id } = await system.newUser();
      const newEmail = `${crypto.randomUUID()}@example.com`;
      await client(accessToken).changeEmail({ newEmail, currentPassword: password });
      const token = tokenIn((await until("the mail", async () => (await mailsTo(system, newEmail))[0])).text);
      const act = () => client().verifyEmail({ token, password });
      return { act, writes: [{ action: "email_changed", account_id }] };
    },
    async "a password chosen by mail"() {
      const { email, userId: account_id } = await system.newUser();
      await client().requestPasswordReset({ email });
      const token = tokenIn((await mailTo(system, email, RESET)).text);
      const act = () => client().resetPassword({ token, newPassword: `new-${crypto.randomUUID()}` });
      return { act, writes: [{ action: "password_reset", account_id }] };
    },
    async "a signing key removed"() {
      const keyId = system.signingKeys.keys.at(-1)!.kid;
      const act = () => operator().removeSigningKey({ keyId });
      return { act, writes: [{ action: "signing_key_removed", reason: keyId, ...byOperator }] };
    },
    async "a refresh token used twice"() {
      const { refreshToken, userId: account_id, sessionId: session_id } = await system.newUser();
      await client().refreshToken({ refreshToken });
      const act = () => client().refreshToken({ refreshToken });
      return { act, writes: [{ action: "refresh_token_reused", outcome: "refused", account_id, session_id }] };
    },
  };

  /** Tries the call with the log unable to take its entry, then with everything else unable to change, and then as it is. */
  async function judge(arrange: Arrange): Promise<AuditAction[]> {
    const { act, writes, changesNothing } = await arrange();
    const untouched = await everything();
    await refusingCommits(["audit_log"], act);
    assert.deepEqual(await everything(), untouched, "no change without an entry");
    if (writes[0]!.reason !== "bad_credentials" && !changesNothing) {
      await refusingCommits(["accounts", "credentials", "sessions", "mails", "removed_keys"], act);
      assert.deepEqual(await everything(), untouched, "no entry without the change");
    }
    const newest = await newestEntry();
    const startedAt = system.clock.now();
    await act().catch((error: unknown) => assert.equal(writes[0]!.outcome, "refused", String(error)));
    const entries = await entriesAfter(newest);
    for (const [index, expected] of writes.entries()) {
      const { request_id, at, address, ...entry } = entries[index] as Entry & { at: Date };
      assert.deepEqual({ ...entry, ...expected, outcome: expected.outcome ?? "success" }, entry);
      assert.equal(address, "127.0.0.1");
      assert.ok(Math.abs(at.getTime() - startedAt) < 30_000);
      const logged = system.logLines.filter((line) => line.requestId === request_id);
      assert.ok(logged.length > 0, "the request's id leads to its log line");
    }
    assert.equal(entries.length, writes.length);
    return writes.map(({ action }) => action);
  }

  test("S-LOG-06 every action is written down once, and what cannot be written down does not happen", async (t) => {
    const written = new Set<AuditAction>();
    for (const [name, arrange] of Object.entries(cases)) {
      await t.test(`S-LOG-06 ${name}`, async () => {
        for (const action of await judge(arrange)) written.add(action);
      });
    }
    assert.deepEqual([...written, ...WRITTEN_BY_A_JOB].sort(), [...AUDIT_ACTIONS].sort());
  });

  test("S-LOG-06 what changes nothing is not written down", async () => {
    const { accessToken, refreshToken, userId } = await system.newUser();
    await client().refreshToken({ refreshToken });
    await operator().enableAccount({ userId });
    await client(accessToken).endOtherSessions({});
    const newest = await newestEntry();
    await operator().enableAccount({ userId });
    await client().logout({ refreshToken: "unknown" });
    await client(accessToken).endOtherSessions({});
    assert.deepEqual([...(await entriesAfter(newest))], []);
  });
});
