import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserCreatedSchema } from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { UserInternalService, UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connectService } from "../../client/service-client.ts";
import { connect } from "../../db/connection.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { startTestService, startTestSystem, type TestSystem } from "../../testing/system.ts";
import { signAccessToken } from "../../token/access-token.ts";
import { createSigner } from "../../token/signing-keys.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { user } from "./service.ts";

describe("profiles", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, user] });
  });

  after(() => system[Symbol.asyncDispose]());

  const backend = () => system.asService(UserInternalService, "backend", "user");
  const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;

  test("right after the registration a person reads their own profile, made from the account", async () => {
    const { userId, email, accessToken } = await system.newUser({ firstName: "Zoë", lastName: "O'Neil" });

    const { user: me } = await system.asUser(UserService, accessToken).getMe({});

    const { account } = await system.asService(AuthInternalService, "user", "auth").getAccount({ userId });
    assert.ok(me && account);
    const { $typeName, roles, ...profile } = me;
    assert.deepEqual(profile, {
      userId,
      email,
      firstName: "Zoë",
      lastName: "O'Neil",
      locale: "",
      kind: AccountKind.USER,
      createdAt: account.createdAt,
    });
    assert.deepEqual(roles, ["user"]);
    assert.deepEqual((await backend().getUser({ userId })).user, me);
  });

  test("roles are those of the moment, in alphabetical order", async () => {
    const { userId, accessToken } = await system.newUser();
    const roles = system.asService(AccessInternalService, "operator", "access");
    const mine = async () => (await system.asUser(UserService, accessToken).getMe({})).user?.roles;
    assert.deepEqual(await mine(), ["user"]);

    for (const name of ["editor", "support"]) {
      await roles.createRole({ name });
      await roles.assignRole({ userId, role: name });
    }
    assert.deepEqual(await mine(), ["editor", "support", "user"]);

    await roles.unassignRole({ userId, role: "editor" });
    assert.deepEqual((await backend().getUser({ userId })).user?.roles, ["support", "user"]);
  });

  test("20 first reads at once make one profile and one event, however the id is spelled", async () => {
    const { userId, email, accessToken } = await system.newUser();
    const person = system.asUser(UserService, accessToken);
    const reads = Array.from({ length: 20 }, (_, number) => {
      if (number % 2 === 0) return person.getMe({});
      return backend().getUser({ userId: number % 4 === 1 ? userId : userId.toUpperCase() });
    });

    const answers = await Promise.all(reads);

    for (const answer of answers) assert.deepEqual(answer.user, answers[0]!.user);
    assert.equal(answers[0]!.user?.email, email);
    const { profiles, events } = await stored(system, userId);
    assert.equal(profiles, 1);
    assert.equal(events.length, 1);
    const { $typeName: _, roles, kind, ...profile } = answers[0]!.user!;
    const { $typeName, ...fact } = events[0]!;
    assert.deepEqual(fact, profile);
  });

  test("people see themselves by id, and nobody else", async () => {
    const ann = await system.newUser();
    const bob = await system.newUser();
    const person = system.asUser(UserService, ann.accessToken);

    const { user: me } = await person.getMe({});
    for (const userId of [ann.userId, ann.userId.toUpperCase()]) {
      assert.deepEqual((await person.getUser({ userId })).user, me);
    }
    for (const userId of [bob.userId, crypto.randomUUID()]) {
      await assert.rejects(person.getUser({ userId }), because("USER_NOT_FOUND"));
      await assert.rejects(person.getUser({ userId }), { code: Code.NotFound });
    }
  });

  test("several people come in the order asked for, each once, and without those who do not exist", async () => {
    const [ann, bob, eve] = await Promise.all([
      system.newUser({ firstName: "Ann" }),
      system.newUser({ firstName: "Bob", stageName: "The Bobs" }),
      system.newUser({ firstName: "Eve" }),
    ]);
    const role = `r${crypto.randomUUID()}`;
    const roles = system.asService(AccessInternalService, "operator", "access");
    await roles.createRole({ name: role });
    await roles.assignRole({ userId: eve.userId, role });

    const userIds = [eve, ann, eve, bob].map(({ userId }) => userId);
    userIds.splice(1, 0, crypto.randomUUID(), eve.userId.toUpperCase());
    const { users } = await backend().batchGetUsers({ userIds });

    assert.deepEqual(
      users.map(({ firstName, roles, artist }) => ({ firstName, roles, stageName: artist?.stageName })),
      [
        { firstName: "Eve", roles: [role, "user"].sort(), stageName: undefined },
        { firstName: "Ann", roles: ["user"], stageName: undefined },
        { firstName: "Bob", roles: ["artist", "user"], stageName: "The Bobs" },
      ],
    );
    for (const user of users) assert.deepEqual((await backend().getUser({ userId: user.userId })).user, user);
    for (const bad of [[], Array.from({ length: 101 }, () => ann.userId), ["no uuid"]]) {
      await assert.rejects(backend().batchGetUsers({ userIds: bad }), because("INVALID_REQUEST"));
    }
    const all = Array.from({ length: 100 }, () => crypto.randomUUID());
    assert.deepEqual((await backend().batchGetUsers({ userIds: all })).users, []);
  });

  test("an unknown user is NOT_FOUND / USER_NOT_FOUND and leaves nothing behind", async () => {
    const userId = crypto.randomUUID();

    await assert.rejects(backend().getUser({ userId }), because("USER_NOT_FOUND"));
    await assert.rejects(backend().getUser({ userId }), { code: Code.NotFound });
    assert.deepEqual(await stored(system, userId), { profiles: 0, events: [] });
  });

  test("a live session without an account, as that of one deleted a moment ago, is refused", async () => {
    const { sessionId } = await system.newUser();
    const seconds = Math.floor(system.clock.now() / 1000);
    const claims = { userId: crypto.randomUUID(), sessionId, generation: 0, authenticatedAt: seconds };
    const issuer = "http://127.0.0.1:8080";
    const token = signAccessToken(
      createSigner(system.signingKeys),
      { issuer, clock: system.clock },
      { ...claims, expiresAt: seconds + 60 },
    );

    await assert.rejects(system.asUser(UserService, token).getMe({}), because("UNAUTHENTICATED"));
    assert.deepEqual(await stored(system, claims.userId), { profiles: 0, events: [] });
  });

  test("while auth or access is away nothing is stored and callers hear UNAVAILABLE; then it works again", async () => {
    await using others = await startTestSystem({ definitions: [auth, access] });
    const target = { host: "127.0.0.1", port: Number(new URL(others.internalUrl).port) };
    await using toAuth = await startFaultProxy(target);
    await using toAccess = await startFaultProxy(target);
    const keys = others.serviceKeys.filter((key) => key.callee === "user" || key.caller === "user");
    const variables = {
      CONCIERGE_USER_AUTH_URL: toAuth.url,
      CONCIERGE_USER_ACCESS_URL: toAccess.url,
      CONCIERGE_USER_SERVICE_KEYS: JSON.stringify({ keys }),
    };
    await using userAlone = await startTestService(user, { variables });
    await userAlone.server.ready;
    // both clocks stand still since their own start; tokens between the two need one hour
    await others.advance(userAlone.clock.now() - others.clock.now());
    using connection = connectService({
      baseUrl: userAlone.internalUrl,
      key: others.keyOf("backend", "user"),
      clock: userAlone.clock,
    });
    const client = connection.client(UserInternalService);
    const unavailable = async (userId: string) => {
      await assert.rejects(client.getUser({ userId }), because("DEPENDENCY_UNAVAILABLE"));
      await assert.rejects(client.getUser({ userId }), { code: Code.Unavailable });
    };

    // before the registration: once user has heard of an account, it needs auth no more
    toAuth.cut();
    const { userId } = await others.newUser();
    await unavailable(userId);
    assert.deepEqual(await stored(userAlone, userId), { profiles: 0, events: [] });
    toAccess.cut();
    await toAuth.heal();
    await unavailable(userId);
    await toAccess.heal();

    assert.deepEqual((await client.getUser({ userId })).user?.roles, ["user"]);
    assert.equal((await stored(userAlone, userId)).events.length, 1);
    // a profile that is there needs auth no more
    toAuth.cut();
    assert.equal((await client.getUser({ userId })).user?.userId, userId);
  });
});

/** What user's database holds about a person. */
async function stored({ database }: TestSystem, userId: string) {
  const sql = connect(database("user").runtimeUrl, { applicationName: "test" });
  try {
    const profiles = await sql`select 1 from profiles where user_id = ${userId}`;
    const events = await sql`select payload from feed_outbox where subject = ${`user/${userId}`} order by id`;
    return { profiles: profiles.length, events: events.map(({ payload }) => fromBinary(UserCreatedSchema, payload)) };
  } finally {
    await sql.end();
  }
}
