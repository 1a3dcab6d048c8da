/** Rights in memory, against owners who are slow, behind or away: nothing old is ever kept. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { reasonOf } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import { raceFills } from "../testing/rights-race.ts";
import { mergeRevisions, type Revisions, revision, subjectOf } from "./revisions.ts";
import { holds, noRights, type Rights, type Subject, setOf } from "./rights.ts";
import { RightsCache, type RightsChange, type SharedAnswers } from "./rights-cache.ts";

const PERMISSION = "things:do";
const anne: Subject = { userId: "anne", organizationId: "bakery" };
const bert: Subject = { userId: "bert", organizationId: "bakery" };

/** Rights as the owner has them at a revision of the bakery: even ones give the permission. */
function rightsAt(version: bigint, platform = 0n): Rights {
  const revisions = mergeRevisions(revision("access", "bakery", version), revision("access", "", platform));
  const permissions = setOf(version % 2n === 0n ? [PERMISSION] : []);
  return { ...noRights("none", revisions), standing: "active", permissions };
}

const changeTo = (version: bigint, userId?: string): RightsChange => {
  return { service: "access", organizationId: "bakery", userId, version };
};

/** An owner whose answers come when the test lets them. */
function slowOwner(maxBytes?: number, shared?: SharedAnswers) {
  const questions: { subject: Subject; wanted: Revisions; answer: (rights: Rights) => void; fail: () => void }[] = [];
  const load = (subject: Subject, wanted: Revisions) => {
    const { promise, resolve, reject } = Promise.withResolvers<Rights>();
    questions.push({ subject, wanted, answer: resolve, fail: () => reject(new Error("away")) });
    return promise;
  };
  return { questions, cache: new RightsCache({ load, shared, now: () => 0, maxBytes }) };
}

const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test("R-CON-06 an answer of revision n that comes after the change n + 1 is never kept: 10,000 rounds", async () => {
  assert.equal(await raceFills(10_000), 0);
});

test("R-CON-06 nor is one that is shared, however old the one is that comes back: 10,000 rounds", async () => {
  assert.equal(await raceFills(10_000, { isShared: true }), 0);
});

test("all who ask at the same time are one question; a failed one is not kept", async () => {
  const { cache, questions } = slowOwner();
  const asked = [cache.ask(anne), cache.ask(anne), cache.ask(bert)];
  assert.equal(questions.length, 2);
  questions[0]!.answer(rightsAt(2n));
  questions[1]!.fail();
  assert.equal(await asked[0], await asked[1]);
  await assert.rejects(asked[2]!, /away/);
  assert.ok(cache.get(anne));
  assert.equal(cache.get(bert), undefined);
  const again = cache.ask(bert);
  assert.equal(questions.length, 3);
  questions[2]!.answer(rightsAt(2n));
  await again;
  assert.ok(cache.get(bert));
});

test("S-TEN-15 an answer that does not know what the feed has told is asked for again, three times at most", async () => {
  const { cache, questions } = slowOwner();
  cache.change(changeTo(5n, "bert"));
  const asked = assert.rejects(cache.ask(anne), /knows less/);
  for (let question = 0; question < 3; question++) {
    assert.equal(questions.length, question + 1);
    assert.deepEqual(questions[question]!.wanted, revision("access", "bakery", 5n));
    questions[question]!.answer(rightsAt(4n));
    await turn();
  }
  await asked;
  assert.equal(cache.get(anne), undefined);
});

test("a token of what has not happened is refused after one question, and leaves what is known as it is", async () => {
  const { cache, questions } = slowOwner();
  const wanted = revision("access", "bakery", 5n);
  const asked = assert.rejects(cache.ask(anne, wanted), because("INVALID_CONSISTENCY_TOKEN"));
  assert.deepEqual(questions[0]!.wanted, wanted);
  questions[0]!.answer(rightsAt(4n));
  await asked;
  assert.equal(questions.length, 1);
  assert.ok(cache.get(anne));
  const better = cache.ask(anne, wanted);
  questions[1]!.answer(rightsAt(6n));
  assert.ok(holds((await better).rights, PERMISSION));
  assert.ok(cache.get(anne, wanted));
  assert.equal(cache.get(anne, revision("access", "bakery", 7n)), undefined);
});

test("who wants more asks a question of their own, and no older answer that comes later takes its place", async () => {
  const { cache, questions } = slowOwner();
  const [first, second] = [cache.ask(anne), cache.ask(anne, revision("access", "bakery", 6n))];
  assert.deepEqual(questions[1]!.wanted.get(subjectOf("access", "bakery")), 6n);
  questions[1]!.answer(rightsAt(6n));
  assert.equal((await second).rights.revisions.get(subjectOf("access", "bakery")), 6n);
  questions[0]!.answer(rightsAt(5n));
  await first;
  assert.ok(holds(cache.get(anne)!.rights, PERMISSION));
});

test("after clear() nothing that was asked before is kept, and who asks then asks anew", async () => {
  const { cache, questions } = slowOwner();
  const before = cache.ask(anne);
  cache.clear("access");
  const after = cache.ask(anne);
  assert.equal(questions.length, 2);
  questions[0]!.answer(rightsAt(2n));
  await before;
  assert.equal(cache.get(anne), undefined);
  questions[1]!.answer(rightsAt(3n));
  await after;
  assert.ok(!holds(cache.get(anne)!.rights, PERMISSION));
});

test("a service that counts anew after a restore is believed; what others count is remembered", async () => {
  const { cache, questions } = slowOwner();
  cache.change(changeTo(5n));
  cache.change({ ...changeTo(3n), service: "organization" });
  cache.clear("access");
  const asked = cache.ask(anne);
  assert.deepEqual(questions[0]!.wanted, revision("organization", "bakery", 3n));
  questions[0]!.answer(rightsAt(2n));
  await asked;
  assert.ok(cache.get(anne));
});

test("a change of one person, of an organization, of the platform: each forgets no more than it must", async () => {
  const { cache, questions } = slowOwner();
  const carla: Subject = { userId: "carla", organizationId: "school" };
  const kept = () => [anne, bert, carla].map((subject) => cache.get(subject) !== undefined);
  const fill = async (version: bigint, platform = 0n) => {
    for (const subject of [anne, bert, carla]) {
      const asked = cache.ask(subject);
      questions.at(-1)!.answer(rightsAt(version, platform));
      await asked;
    }
  };
  await fill(2n);
  cache.change(changeTo(3n, "anne"));
  assert.deepEqual(kept(), [false, true, true]);
  await fill(4n);
  cache.change(changeTo(5n));
  assert.deepEqual(kept(), [false, false, true]);
  await fill(6n);
  cache.change({ service: "access", organizationId: "", userId: "anne", version: 1n });
  assert.deepEqual(kept(), [true, true, true]);
  cache.change({ service: "access", organizationId: "", version: 2n });
  assert.deepEqual(kept(), [false, false, false]);
  const behind = cache.ask(carla);
  questions.at(-1)!.answer(rightsAt(6n, 1n));
  await turn();
  questions.at(-1)!.answer(rightsAt(6n, 2n));
  assert.equal((await behind).rights.revisions.get(subjectOf("access", "")), 2n);
});

/** Fills the cache with what the owner says of them. */
async function fill({ cache, questions }: ReturnType<typeof slowOwner>, people: Subject[], rights: Rights) {
  for (const person of people) {
    const asked = cache.ask(person);
    questions.at(-1)!.answer(rights);
    await asked;
  }
}

test("who is pushed out for want of room is asked for again, and changes still find the others", async () => {
  const owner = slowOwner(1_200);
  const people = ["anne", "bert", "carla"].map((userId) => ({ userId, organizationId: "bakery" }));
  const kept = () => people.map((person) => owner.cache.get(person) !== undefined);
  await fill(owner, [...people, people[2]!, people[0]!], rightsAt(2n));
  assert.deepEqual(kept(), [true, false, true]);
  owner.cache.change(changeTo(3n));
  assert.deepEqual(kept(), [false, false, false]);
});

test("many branches take more room", async () => {
  const owner = slowOwner(10_000);
  const people = Array.from({ length: 10 }, (_, index) => ({ userId: `${index}`, organizationId: "bakery" }));
  const kept = () => people.filter((person) => owner.cache.get(person)).length;
  await fill(owner, people, rightsAt(2n));
  assert.equal(kept(), 10);
  const branches = new Map(Array.from({ length: 100 }, (_, index) => [`${index}`, setOf([])]));
  await fill(owner, people, { ...rightsAt(2n), branches });
  assert.equal(kept(), 1);
});

test("any number of strangers pushes no member out", async () => {
  const owner = slowOwner(2_000);
  await fill(owner, [anne], rightsAt(2n));
  const strangers = Array.from({ length: 6_000 }, (_, index) => ({ userId: `${index}`, organizationId: "bakery" }));
  await fill(owner, strangers, noRights("none", rightsAt(2n).revisions));
  assert.ok(owner.cache.get(anne));
  assert.deepEqual(
    [owner.cache.get(strangers[0]!), owner.cache.get(strangers.at(-1)!) !== undefined],
    [undefined, true],
  );
  owner.cache.change(changeTo(4n, "anne"));
  await fill(owner, [anne], noRights("none", rightsAt(4n).revisions));
  assert.equal(owner.cache.get(anne)!.rights.standing, "none");
  owner.cache.change(changeTo(5n));
  assert.equal(owner.cache.get(anne), undefined);
});

/** What others share, found when the test lets it be. */
function slowShared() {
  const looks: ((found?: Rights) => void)[] = [];
  const stored: [Subject, Rights][] = [];
  const shared: SharedAnswers = {
    isFresh: () => true,
    find: () => new Promise<Rights | undefined>((resolve) => void looks.push(resolve)),
    store: (subject, rights) => void stored.push([subject, rights]),
  };
  return { shared, looks, stored };
}

test("what is shared is looked for once the owner has told of the organization, once for all who ask", async () => {
  const { shared, looks, stored } = slowShared();
  const owner = slowOwner(undefined, shared);
  await fill(owner, [anne], rightsAt(2n));
  assert.deepEqual([looks.length, stored], [0, [[anne, rightsAt(2n)]]]);
  const asked = [owner.cache.ask(bert), owner.cache.ask(bert)];
  assert.equal(looks.length, 1);
  looks[0]!(rightsAt(2n));
  assert.deepEqual(
    await Promise.all(asked),
    [1, 2].map(() => ({ rights: rightsAt(2n), askedAt: 0, isFollowed: true })),
  );
  assert.ok(owner.cache.get(bert));
  assert.equal(owner.questions.length, 1);
});

const doubts: [what: string, shared: Rights, meanwhile?: (cache: RightsCache, shared: SharedAnswers) => void][] = [
  ["is older than what the owner told", rightsAt(1n)],
  ["knows the platform less well", rightsAt(2n)],
  [
    "depends on what the owner did not tell of",
    { ...rightsAt(2n, 1n), revisions: revision("organization", "bakery", 9n) },
  ],
  ["is overtaken by a change of somebody", rightsAt(2n, 1n), (cache) => cache.change(changeTo(3n, "carla"))],
  ["is overtaken by a change of everybody", rightsAt(2n, 1n), (cache) => cache.change(changeTo(3n))],
  ["is overtaken by the platform", rightsAt(2n, 1n), (cache) => cache.change({ ...changeTo(2n), organizationId: "" })],
  ["was asked for before all was forgotten", rightsAt(2n, 1n), (cache) => cache.clear("access")],
  ["is not known to be fresh", rightsAt(2n, 1n), (_, shared) => Object.assign(shared, { isFresh: () => false })],
];
for (const [what, found, meanwhile] of doubts) {
  test(`R-CON-06 what is shared but ${what} is no answer, and not kept`, async () => {
    const { shared, looks } = slowShared();
    const owner = slowOwner(undefined, shared);
    await fill(owner, [anne], rightsAt(2n, 1n));
    const asked = owner.cache.ask(bert);
    meanwhile?.(owner.cache, shared);
    looks[0]!(found);
    await turn();
    assert.equal(owner.cache.get(bert), undefined);
    assert.equal(owner.questions.length, 2);
    owner.questions[1]!.answer(rightsAt(4n, 2n));
    assert.deepEqual((await asked).rights, rightsAt(4n, 2n));
  });
}

test("R-CON-06 what was looked for before all was forgotten is no answer, even if the owner tells of the same revisions", async () => {
  const { shared, looks } = slowShared();
  const owner = slowOwner(undefined, shared);
  await fill(owner, [anne], rightsAt(2n));
  const asked = owner.cache.ask(bert);
  owner.cache.clear("access");
  await fill(owner, [anne], rightsAt(2n));
  looks[0]!(rightsAt(2n));
  await turn();
  assert.equal(owner.questions.length, 3);
  owner.questions[2]!.answer(rightsAt(3n));
  assert.deepEqual((await asked).rights, rightsAt(3n));
});

test("what is shared but does not know what is wanted is no answer", async () => {
  const { shared, looks } = slowShared();
  const owner = slowOwner(undefined, shared);
  await fill(owner, [anne], rightsAt(2n));
  const asked = owner.cache.ask(bert, revision("access", "bakery", 3n));
  looks[0]!(rightsAt(2n));
  await turn();
  owner.questions[1]!.answer(rightsAt(4n));
  assert.deepEqual((await asked).rights, rightsAt(4n));
});

test("after a change what is shared counts again if it knows of it, without a question", async () => {
  const { shared, looks } = slowShared();
  const owner = slowOwner(undefined, shared);
  await fill(owner, [anne], rightsAt(2n));
  owner.cache.change(changeTo(3n, "anne"));
  const asked = owner.cache.ask(bert);
  looks[0]!(rightsAt(3n));
  assert.deepEqual((await asked).rights, rightsAt(3n));
  assert.equal(owner.questions.length, 1);
});

test("rights are kept no longer than told, whatever the feeds say", async () => {
  const clock = createTestClock();
  const load = async () => rightsAt(2n);
  const cache = new RightsCache({ load, now: () => clock.monotonic(), maxAgeMs: 1_000 });
  await cache.ask(anne);
  clock.advance(899);
  assert.ok(cache.get(anne));
  clock.advance(102);
  assert.equal(cache.get(anne), undefined);
});
