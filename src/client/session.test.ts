/** A person's session on their own device, against the whole system. */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { reasonOf } from "../errors.ts";
import { toConsistencyToken } from "../rights/revisions.ts";
import { createTestClock } from "../testing/clock.ts";
import { newOrganization, verifyAddress } from "../testing/organizations.ts";
import type { TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { fileStore } from "./file-store.ts";
import { createSession } from "./node-session.ts";
import { memoryStore, type SessionStore } from "./session-store.ts";
import {
  claimsOf,
  GREETING,
  greet,
  isSignedOut,
  newFolder,
  refusalOf,
  type Sessions,
  startSessions,
  TOKEN_MS,
} from "./session-testing.ts";

describe("a session", () => {
  let sessions: Sessions;
  let system: TestSystem;

  before(async () => {
    sessions = await startSessions();
    ({ system } = sessions);
  });
  after(() => sessions[Symbol.asyncDispose]());

  test("100 calls at once with an expired access token make one refresh", async () => {
    const shared = memoryStore();
    const turns: string[] = [];
    const exclusively: SessionStore["exclusively"] = (work) => {
      turns.push("a turn");
      return shared.exclusively(work);
    };
    await using session = await sessions.signIn({ store: { ...shared, exclusively } });
    turns.length = 0;
    const { sid } = await claimsOf(session);
    await system.advance(TOKEN_MS + 1);
    const before = sessions.refreshCalls();
    const answers = await Promise.all(Array.from({ length: 100 }, () => greet(session)));
    assert.deepEqual(new Set(answers), new Set([GREETING]));
    assert.deepEqual([await sessions.usedTokens(sid), sessions.refreshCalls() - before, turns.length], [1, 1, 1]);
  });

  test("100 calls at once whose access token is refused make one refresh", async () => {
    const clock = createTestClock(system.clock.now());
    await using session = await sessions.signIn({ clock });
    const { sid } = await claimsOf(session);
    await system.advance(2 * TOKEN_MS);
    const before = sessions.refreshCalls();
    const answers = await Promise.all(Array.from({ length: 100 }, () => greet(session)));
    assert.deepEqual(new Set(answers), new Set([GREETING]));
    assert.deepEqual([await sessions.usedTokens(sid), sessions.refreshCalls() - before], [1, 1]);
  });

  test("a stream that is refused before it has begun begins with the next access token", async () => {
    const clock = createTestClock(system.clock.now());
    await using session = await sessions.signIn({ clock });
    await system.advance(2 * TOKEN_MS);
    const messages: string[] = [];
    const stream = session.service(GreeterService).sayHelloStream({ name: "Ann", count: 2 });
    for await (const { message } of stream) messages.push(message);
    assert.deepEqual(messages, [GREETING, GREETING]);
  });

  test("what a client streams is sent with an access token that is good", async () => {
    await using session = await sessions.signIn();
    await system.advance(TOKEN_MS + 1);
    const greeter = session.service(GreeterService);
    const names = async function* () {
      yield { name: "Ann" };
    };
    assert.match((await greeter.sayHelloClientStream(names())).message, /Ann/);
  });

  test("C20 what a person has changed goes with the calls that follow, and not with those of the next person", async () => {
    const sent: (string | null)[] = [];
    const transport = createConnectTransport({
      baseUrl: system.publicUrl,
      httpVersion: "1.1",
      interceptors: [
        (next) => (request) => {
          sent.push(request.header.get("consistency-token"));
          return next(request);
        },
      ],
    });
    await using session = await createSession({ transport, clock: system.clock });
    await session.login(await system.newUser());
    const slug = `bakery-${crypto.randomUUID()}`;
    const organizations = session.service(OrganizationService);
    const { organization, consistencyToken } = await organizations.createOrganization({ name: "Bakery", slug });
    await session.switchOrganization(organization!.organizationId);
    await greet(session);
    assert.deepEqual(sent.slice(-2), [consistencyToken, consistencyToken]);
    await session.login(await system.newUser());
    await greet(session);
    assert.equal(sent.at(-1), null);
  });

  test("C20 what a person has seen and is not there any more, as after a restore, fails one call and not those that follow", async () => {
    const lost = toConsistencyToken(new Map([["access/", 2n ** 40n]]));
    const transport = createConnectTransport({
      baseUrl: system.publicUrl,
      httpVersion: "1.1",
      interceptors: [
        (next) => async (request) => {
          const response = await next(request);
          if ("consistencyToken" in response.message) response.message.consistencyToken = lost;
          return response;
        },
      ],
    });
    await using session = await createSession({ transport, clock: system.clock });
    await session.login(await system.newUser());
    const organizations = session.service(OrganizationService);
    const create = () => organizations.createOrganization({ name: "Bakery", slug: `bakery-${crypto.randomUUID()}` });
    const { organization } = await create();
    const enter = () => session.switchOrganization(organization!.organizationId);
    const reason = await enter().catch(reasonOf);
    assert.equal(reason, "INVALID_CONSISTENCY_TOKEN");
    await enter();
    await create();
    const listed = () => organizations.listMembers({});
    assert.equal(await listed().catch(reasonOf), "INVALID_CONSISTENCY_TOKEN");
    assert.equal((await listed()).members.length, 1);
  });

  test("an access token is refreshed on the side before it expires, and a call does not wait for that", async () => {
    await using session = await sessions.signIn();
    const [token, { sid }] = [await session.accessToken(), await claimsOf(session)];
    await system.advance(TOKEN_MS * 0.5);
    assert.equal(await session.accessToken(), token, "long before its end it is as good as new");
    assert.equal(await sessions.usedTokens(sid), 0);
    await system.advance(TOKEN_MS * 0.45);
    assert.equal(await session.accessToken(), token);
    await until("the next one", async () => (await session.accessToken()) !== token);
    assert.equal(await sessions.usedTokens(sid), 1);
  });

  test("logout forgets the session also while the server cannot be reached, and says so", async () => {
    await using proxy = await sessions.proxy();
    const store = memoryStore();
    await using session = await sessions.signIn({ url: proxy.url, store });
    proxy.cut();
    assert.deepEqual(await session.logout(), { isEnded: false });
    assert.equal(session.state, "signed-out");
    assert.deepEqual(Object.keys((await store.read()).session ?? {}), []);
    assert.deepEqual(await session.logout(), { isEnded: true }, "there is nothing left to end");
  });

  test("C25 the device token is shown at the next login, whoever has logged out since", async () => {
    const store = memoryStore();
    const user = await system.newUser();
    await using session = await sessions.open({ store });
    await session.login(user);
    const { deviceToken } = await store.read();
    await session.logout();
    await session.login(user);
    const [row] = await sessions.sql`select count(*)::int from device_tokens where account_id = ${user.userId}`;
    assert.equal(row!.count, 2, "one of newUser() itself, and one of the session, which was replaced");
    assert.notEqual((await store.read()).deviceToken, deviceToken);
  });

  test("C27 two sessions of one family stay each in its organization", async () => {
    const [bakery, florist] = [await newOrganization(system, "bakery"), await newOrganization(system, "florist")];
    const { owner } = bakery;
    const asFlorist = system.asMember(OrganizationService, florist.owner, florist.organizationId);
    const { email, userId } = owner;
    await verifyAddress(system, userId);
    const { invitation } = await asFlorist.inviteMember({ email, role: MemberRole.MEMBER });
    const store = memoryStore();
    await using first = await sessions.open({ store });
    await first.login({ ...owner, organizationId: bakery.organizationId });
    await first.service(OrganizationService).acceptInvitation({ invitationId: invitation!.invitationId });
    await using second = await sessions.open({ store });
    assert.equal(second.organizationId, bakery.organizationId);
    const told: (string | undefined)[] = [];
    second.onChange(() => void told.push(second.organizationId));
    await second.switchOrganization(florist.organizationId);
    assert.deepEqual([second.organizationId, told], [florist.organizationId, [florist.organizationId]]);
    for (const _ of [1, 2]) {
      const claims = await Promise.all([first, second].map(claimsOf));
      assert.deepEqual(
        claims.map(({ org }) => org),
        [bakery.organizationId, florist.organizationId],
      );
      assert.equal(claims[0]!.sid, claims[1]!.sid);
      await system.advance(TOKEN_MS + 1);
    }
    const stranger = (await newOrganization(system, "tailor")).organizationId;
    await assert.rejects(second.switchOrganization(stranger), (error) => reasonOf(error) === "NO_ORGANIZATION");
    assert.equal(second.organizationId, florist.organizationId);
    assert.equal(await greet(second), GREETING);
  });

  test("a new password goes on with the session that it starts", async () => {
    const user = await system.newUser();
    await using session = await sessions.open();
    await session.login(user);
    const { sid } = await claimsOf(session);
    await session.changePassword({ currentPassword: user.password, newPassword: `pass-${crypto.randomUUID()}` });
    assert.notEqual((await claimsOf(session)).sid, sid);
    assert.equal(await greet(session), GREETING);
  });

  test("a refusal for another reason than the token is not repeated", async () => {
    await using session = await sessions.signIn();
    const { sid } = await claimsOf(session);
    const passwords = { currentPassword: "not the one", newPassword: `pass-${crypto.randomUUID()}` };
    const change = session.service(AuthService).changePassword(passwords);
    await assert.rejects(change, (error) => reasonOf(error) === "BAD_CREDENTIALS");
    assert.equal(await sessions.usedTokens(sid), 0);
    assert.equal(session.state, "signed-in");
  });

  test("somebody who signs up is nobody before the login", async () => {
    await using session = await sessions.open();
    const person = { email: `${crypto.randomUUID()}@example.com`, password: `pass-${crypto.randomUUID()}` };
    const userId = await session.registerUser({ ...person, firstName: "Ann", lastName: "Lee" });
    assert.equal(session.state, "signed-out");
    await assert.rejects(greet(session), isSignedOut);
    await session.login(person);
    assert.equal(session.userId, userId);
  });

  test("S-SDK-09 neither a session nor its errors show a token, and its file is for its owner only", async () => {
    await using folder = await newFolder();
    const path = join(folder.path, "session.json");
    const store = fileStore(path);
    await using session = await sessions.signIn({ store });
    const { session: stored } = await store.read();
    await system.asService(AuthInternalService, "operator", "auth").endUserSessions({ userId: session.userId });
    const error = await refusalOf(session);
    const shown = [session, error].flatMap((value) => [
      inspect(value, { depth: 20, showHidden: true }),
      JSON.stringify(value),
    ]);
    const secrets = [stored!.refreshToken, stored!.idempotencyKey, stored!.accessTokens[0]!.token];
    for (const text of shown)
      assert.ok(
        secrets.every((secret) => !text.includes(secret)),
        text,
      );
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });
});
