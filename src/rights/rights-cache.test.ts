/** Rights in memory, against owners who are slow, behind or away: nothing old is ever kept. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { reasonOf } from "../errors.ts";
import { raceFills } from "../testing/rights-race.ts";
import { mergeRevisions, type Revisions, revision, subjectOf } from "./revisions.ts";
import { holds, noRights, type Rights, type Subject, setOf } from "./rights.ts";
import { RightsCache, type RightsChange } from "./rights-cache.ts";

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
function slowOwner(maxBytes?: number) {
  const questions: { subject: Subject; wanted: Revisions; answer: (rights: Rights) => void; fail: () => void }[] = [];
  const load = (subject: Subject, wanted: Revisions) => {
    const { promise, resolve, reject } = Promise.withResolvers<Rights>();
    questions.push({ subject, wanted, answer: resolve, fail: () => reject(new Error("away")) });
    return promise;
  };
  return { questions, cache: new RightsCache({ load, now: () => 0, maxBytes }) };
}

const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test("R-CON-06 an answer of revision n that comes after the change n + 1 is never kept: 10,000 rounds", async () => {
  assert.equal(await raceFills(10_000), 0);
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
  cache.clear();
  const after = cache.ask(anne);
  assert.equal(questions.length, 2);
  questions[0]!.answer(rightsAt(2n));
  await before;
  assert.equal(cache.get(anne), undefined);
  questions[1]!.answer(rightsAt(3n));
  await after;
  assert.ok(!holds(cache.get(anne)!.rights, PERMISSION));
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
