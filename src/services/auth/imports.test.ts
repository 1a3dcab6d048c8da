/** People who come with the hash of a password. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import type { Sql } from "postgres";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { AuthInternalService, AuthService, ImportResult } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { reasonOf } from "../../errors.ts";
import { startTestService, type TestSystem } from "../../testing/system.ts";
import { hashOfPassword } from "./password-hashes.ts";
import { auth } from "./service.ts";

/** Made by Apache's htpasswd -B. */
const PASSWORD = "Fine Påssword 1";
const HASH = "$2y$05$LlQygfwzuGQSKTt4UXmNZO.Ar2A7tsTbwr8u4AAWc9r1inHU0VZIC";
const { IMPORTED, ALREADY_THERE, UNKNOWN_HASH, HASH_TOO_COSTLY } = ImportResult;

describe("an import", () => {
  let system: TestSystem;
  let owner: Sql;
  const importUsers = (users: { email: string; passwordHash: string }[]) =>
    system.asService(AuthInternalService, "operator", "auth").importUsers({ users });
  const resultsOf = async (users: { email: string; passwordHash: string }[]) =>
    (await importUsers(users)).outcomes.map(({ result }) => result);
  const count = async (table: string, rows = owner`true`) =>
    Number((await owner`select count(*) from ${owner(table)} where ${rows}`)[0]!.count);
  const counts = async () => [await count("accounts"), await count("credentials"), await count("feed_outbox")];

  before(async () => {
    system = await startTestService(auth);
    await system.server.ready;
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner", max: 2 });
  });

  after(async () => {
    await owner.end();
    await system[Symbol.asyncDispose]();
  });

  test("S-PWD-06 lets people in with the password that they have, whatever its strength", async () => {
    const users = [
      { email: "Apache@Example.com", passwordHash: HASH, firstName: "Ann", lastName: "Lee", locale: "en" },
      {
        email: "weak@example.com",
        passwordHash: await hashOfPassword("football"),
        firstName: "Bob",
        emailVerified: true,
      },
      { ...{ email: "artist@example.com", passwordHash: HASH }, kind: AccountKind.ARTIST, stageName: "The Nightjars" },
    ];
    const { outcomes } = await importUsers(users);
    assert.deepEqual(
      outcomes.map(({ result }) => result),
      [IMPORTED, IMPORTED, IMPORTED],
    );
    const login = (email: string, password: string) => system.asUser(AuthService).login({ email, password });
    assert.equal((await login("apache@example.com", PASSWORD)).userId, outcomes[0]!.userId);
    assert.equal((await login("weak@example.com", "football")).userId, outcomes[1]!.userId);
    const internal = system.asService(AuthInternalService, "user", "auth");
    const { account: user } = await internal.getAccount({ userId: outcomes[0]!.userId });
    const { email, firstName, lastName, locale, kind } = user!;
    assert.deepEqual(
      { email, firstName, lastName, locale, kind },
      { email: "Apache@Example.com", firstName: "Ann", lastName: "Lee", locale: "en", kind: AccountKind.USER },
    );
    const { account: artist } = await internal.getAccount({ userId: outcomes[2]!.userId });
    assert.deepEqual([artist!.kind, artist!.stageName], [AccountKind.ARTIST, "The Nightjars"]);
    const [apache, weak] = outcomes.map(({ userId }) => userId);
    assert.equal(await count("accounts", owner`email_verified_at is not null and id = ${weak!}`), 1);
    assert.equal(await count("accounts", owner`email_verified_at is null and id = ${apache!}`), 1);
    const ids = outcomes.map(({ userId }) => userId);
    const audited = owner`action = 'account_imported' and actor = 'operator operator' and account_id = any(${ids}::uuid[])`;
    assert.equal(await count("audit_log", audited), 3);
    assert.doesNotMatch(JSON.stringify(system.logLines), /\$2y\$|example\.com/i);
  });

  test("answers for each row, and refuses hashes that cannot be used", async () => {
    const before = await counts();
    const users = [
      { email: "one@example.com", passwordHash: "5f4dcc3b5aa765d61d8327deb882cf99" },
      { email: "two@example.com", passwordHash: HASH.replace("$05$", "$15$") },
      { email: "three@example.com", passwordHash: HASH },
      { email: "THREE@example.com", passwordHash: HASH },
      { email: "one@example.com", passwordHash: HASH },
    ];
    assert.deepEqual(await resultsOf(users), [UNKNOWN_HASH, HASH_TOO_COSTLY, IMPORTED, ALREADY_THERE, IMPORTED]);
    assert.deepEqual(
      await counts(),
      before.map((number) => number + 2),
    );
  });

  test("changes nothing of those who are there", async () => {
    const { email, password, userId } = await system.newUser();
    const before = await counts();
    assert.deepEqual(await resultsOf([{ email: email.toUpperCase(), passwordHash: HASH }]), [ALREADY_THERE]);
    assert.deepEqual(await counts(), before);
    assert.equal((await system.asUser(AuthService).login({ email, password })).userId, userId);
  });

  test("of the same 500, four times at once and in other orders, makes each account once", async () => {
    const before = await counts();
    const users = Array.from({ length: 500 }, (_, index) => ({ email: `p${index}@example.com`, passwordHash: HASH }));
    const turned = [...users.slice(250), ...users.slice(0, 250)];
    const results = await Promise.all([users, users.toReversed(), turned, users].map(resultsOf));
    assert.equal(results.flat().filter((result) => result === IMPORTED).length, 500);
    assert.deepEqual(
      await counts(),
      before.map((number) => number + 500),
    );
  });

  test("is for operators, and of 1 to 500 rows that keep the contract's rules", async () => {
    const row = { email: "row@example.com", passwordHash: HASH };
    for (const [users, caller, reason] of [
      [[row], "backend", "CALLER_NOT_ALLOWED"],
      [[row], "user", "CALLER_NOT_ALLOWED"],
      [[], "operator", "INVALID_REQUEST"],
      [Array.from({ length: 501 }, () => row), "operator", "INVALID_REQUEST"],
      [[{ ...row, email: "nobody" }], "operator", "INVALID_REQUEST"],
      [[{ ...row, stageName: "of no artist" }], "operator", "INVALID_REQUEST"],
      [[{ ...row, kind: AccountKind.ARTIST }], "operator", "INVALID_REQUEST"],
    ] as const) {
      const call = system.asService(AuthInternalService, caller, "auth").importUsers({ users: [...users] });
      const error = await call.then(() => assert.fail(caller), ConnectError.from);
      assert.equal(reasonOf(error), reason);
      assert.doesNotMatch(error.message, /\$2y\$/);
    }
  });
});
