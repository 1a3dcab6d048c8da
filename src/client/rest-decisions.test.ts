/** REST and RPC decide alike: hundreds of random questions, asked both ways. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { AuthService as LegacyAuthService, type VerifyTokenResponse } from "../../gen/auth/auth_service_pb.ts";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { forgeTokens } from "../testing/forged-tokens.ts";
import { addMember, makeOrganization, openBranch, suspend } from "../testing/memberships.ts";
import { Random } from "../testing/seeded.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import { createRestFallback, type RestFallback } from "./rest.ts";

const QUESTIONS = 400;
const AT_ONCE = 2;

let opened: AsyncDisposableStack;
let system: TestSystem;
let rest: RestFallback;
let people: TestUser[];
let organizations: string[];
/** Some of each kind. */
let tokens: string[];

before(async () => {
  opened = new AsyncDisposableStack();
  system = opened.use(await startTestSystem());
  rest = opened.use(fallback());
  people = await Promise.all(Array.from({ length: 5 }, () => system.newUser()));
  const [owner, member, stranger, other, gone] = people as [TestUser, TestUser, TestUser, TestUser, TestUser];
  organizations = [await makeOrganization(system, owner), await makeOrganization(system, other)];
  const owned = { system, owner, organizationId: organizations[0]! };
  await openBranch(owned);
  await addMember(owned, member);
  const suspended = await makeOrganization(system, stranger);
  organizations.push(suspended);
  await suspend({ system, owner: stranger, organizationId: suspended });
  await system.asUser(AuthService, gone.accessToken).logout({ refreshToken: gone.refreshToken });
  const forgeries = forgeTokens({
    key: system.signingKeys.keys[0]!,
    claims: decodeJwt(owner.accessToken),
    nowSeconds: Math.floor(system.clock.now() / 1_000),
    trapUrl: "http://127.0.0.1:1",
  });
  tokens = people.flatMap((person) => [
    person.accessToken,
    ...[...organizations, crypto.randomUUID()].map((organizationId) => system.memberToken(person, organizationId)),
    person.refreshToken,
  ]);
  tokens.push(...forgeries.map(({ token }) => token), "", " ", "\ud800", "é".repeat(3_000));
  const isKnown = async () =>
    (await rest.getUserLocals({ userId: owner.userId, organizationId: organizations[0]! })).length === 1;
  await until("the branch is known", isKnown);
  const isRefused = () =>
    rest.verifyToken(gone.accessToken).then(
      () => false,
      (error: unknown) => reasonOf(error) === "UNAUTHENTICATED",
    );
  await until("the logout is known", isRefused);
});
after(() => opened.disposeAsync());

function fallback(key = system.keyOf("backend", "auth")) {
  return createRestFallback({ url: system.server.restUrl!, key, clock: system.clock });
}

/** The answer, or code and reason. */
const endOf = (question: Promise<unknown>): Promise<unknown> =>
  question.catch((error: { code: Code }) => `${Code[error.code]} ${reasonOf(error)}`);

/** What REST tells of it. */
const shapeOf = ({ userId, organizationId, email, active, permissions, locals }: VerifyTokenResponse) => ({
  ...{ userId, organizationId, email, active, permissions, locals },
});

test(`S-SDK-05 over REST the same is decided as over RPC, ${QUESTIONS} times`, async () => {
  const random = new Random(Number(process.env.SEED ?? 5));
  const rpc = system.asService(LegacyAuthService, "backend", "auth");
  const ids = [
    ...people.map(({ userId }) => userId),
    ...organizations,
    crypto.randomUUID(),
    "x",
    "a/b?c#d",
    "..",
    "",
    "é\r\nx: y",
  ];
  const counts = { answered: 0, refused: 0 };
  const ask = async () => {
    const token = random.pick(tokens);
    const userId = random.pick(random.oneIn(3) ? ids : people.map((person) => person.userId));
    const organizationId = random.pick(random.oneIn(3) ? ids : organizations);
    const verified = await endOf(rest.verifyToken(token));
    assert.deepEqual(verified, await endOf(rpc.verifyToken({ token }).then(shapeOf)), token);
    const locals = await endOf(rest.getUserLocals({ userId, organizationId }));
    const expected = await endOf(rpc.getUserLocals({ userId, organizationId }).then(({ localIds }) => localIds));
    assert.deepEqual(locals, expected, `${userId} in ${organizationId}`);
    for (const end of [verified, locals]) counts[typeof end === "string" ? "refused" : "answered"]++;
  };
  for (let asked = 0; asked < QUESTIONS; asked += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, ask));
  assert.ok(counts.answered > QUESTIONS / 5 && counts.refused > QUESTIONS / 5, JSON.stringify(counts));
});

test("S-SDK-05 a key that RPC refuses is refused, and so is one that may not ask", async () => {
  const [{ accessToken, userId }] = people as [TestUser];
  const subject = { userId, organizationId: organizations[0]! };
  for (const [key, expected] of [
    [createServiceKey("backend", "auth", "backend"), "Unauthenticated UNAUTHENTICATED"],
    [system.keyOf("backend", "access"), "Unauthenticated UNAUTHENTICATED"],
    [system.keyOf("user", "auth"), "PermissionDenied CALLER_NOT_ALLOWED"],
  ] as const) {
    using stranger = fallback(key);
    assert.equal(await endOf(stranger.verifyToken(accessToken)), expected);
    assert.equal(await endOf(stranger.getUserLocals(subject)), expected);
  }
});

test("S-SDK-02 a session that has ended is refused over REST, too", async () => {
  const person = await system.newUser();
  assert.equal((await rest.verifyToken(person.accessToken)).userId, person.userId);
  await system.asUser(AuthService, person.accessToken).logout({ refreshToken: person.refreshToken });
  await until(
    "it is refused",
    async () => (await endOf(rest.verifyToken(person.accessToken))) === "Unauthenticated UNAUTHENTICATED",
  );
});
