/** Who reads what of the audit log: those who run the installation all of it, a person what is their own. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import {
  AuthInternalService,
  AuthService,
  type SecurityEvent,
  SecurityEventActor,
} from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { reasonOf } from "../../errors.ts";
import { startTestService, type TestSystem } from "../../testing/system.ts";
import { auth } from "./service.ts";

describe("the audit log's entries", () => {
  let system: TestSystem;

  const operator = () => system.asService(AuthInternalService, "operator", "auth");
  /** Somebody to whom six things have happened, one of them by an operator. */
  const eventfulUser = async () => {
    const user = await system.newUser();
    const { email, password, userId } = user;
    const client = system.asUser(AuthService);
    await assert.rejects(client.login({ email, password: "wrong" }));
    await operator().disableAccount({ userId });
    await operator().enableAccount({ userId });
    return { ...user, accessToken: (await client.login({ email, password })).accessToken };
  };

  before(async () => {
    system = await startTestService(auth);
    await system.server.ready;
  });

  after(() => system[Symbol.asyncDispose]());

  test("S-LOG-06 people see what happened to their own account, and not which administrator did it", async () => {
    const { accessToken } = await eventfulUser();
    await eventfulUser();
    const client = system.asUser(AuthService, accessToken);
    const events: SecurityEvent[] = [];
    let pageToken = "";
    do {
      const page = await client.listMySecurityEvents({ pageSize: 2, pageToken });
      assert.ok(page.events.length <= 2);
      events.push(...page.events);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    const { ANYBODY, ADMINISTRATOR } = SecurityEventActor;
    assert.deepEqual(
      events.map(({ action, succeeded, reason, actor, address }) => [action, succeeded, reason, actor, address]),
      [
        ["login", true, "", ANYBODY, "127.0.0.1"],
        ["account_enabled", true, "", ADMINISTRATOR, ""],
        ["account_disabled", true, "", ADMINISTRATOR, ""],
        ["login", false, "bad_credentials", ANYBODY, "127.0.0.1"],
        ["login", true, "", ANYBODY, "127.0.0.1"],
        ["account_registered", true, "", ANYBODY, "127.0.0.1"],
      ],
    );
    await client.endOtherSessions({});
    await client.changePassword({ currentPassword: "wrong", newPassword: "a new password" }).catch(() => {});
    const [newest] = (await client.listMySecurityEvents({})).events;
    assert.deepEqual([newest!.action, newest!.actor], ["password_changed", SecurityEventActor.OWNER]);
  });

  test("operators and backends see all of it, by account, action and time", async () => {
    const { userId } = await eventfulUser();
    await eventfulUser();
    const backend = system.asService(AuthInternalService, "backend", "auth");
    const all = (await backend.listAuditEntries({ userId })).entries;
    assert.equal(all.length, 6);
    assert.deepEqual([all[1]!.action, all[1]!.actor, all[1]!.userId], ["account_enabled", "operator operator", userId]);
    const logins = (await operator().listAuditEntries({ userId, action: "login" })).entries;
    assert.equal(logins.length, 3);
    const first = await operator().listAuditEntries({ userId, pageSize: 4 });
    const second = await operator().listAuditEntries({ userId, pageSize: 4, pageToken: first.nextPageToken });
    assert.deepEqual(
      [...first.entries, ...second.entries].map(({ id }) => id),
      all.map(({ id }) => id),
    );
    assert.equal(second.nextPageToken, "");
    const since = timestampFromMs(system.clock.now() + 3_600_000);
    assert.deepEqual((await operator().listAuditEntries({ userId, since })).entries, []);
    await system.advance(2 * 3_600_000);
    await operator().disableAccount({ userId });
    const late = await operator().listAuditEntries({ userId, since });
    assert.deepEqual(
      late.entries.map(({ action }) => action),
      ["account_disabled"],
    );
  });

  test("a page token that auth did not give is INVALID_PAGE_TOKEN", async () => {
    for (const text of ["x", "0", "-1", "01", String(2n ** 63n), "1 or 1=1"]) {
      const pageToken = Buffer.from(text).toString("base64url");
      const error = await operator()
        .listAuditEntries({ pageToken })
        .then(() => assert.fail(text), ConnectError.from);
      assert.equal(reasonOf(error), "INVALID_PAGE_TOKEN", text);
    }
  });
});
