/** Limits of people: what they make in one organization counts in the next, and when it is gone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inviteMember } from "./invitations.ts";
import { createOrganization, deleteOrganization } from "./organizations.ts";
import { sweepPersonCounters } from "./person-counters.ts";
import { answerOf, newSlug, openTestDatabase, scope } from "./testing.ts";

function acting(userId: string, organizationId: string) {
  return { kind: "user", sessionId: "", userId, organizationId } as const;
}

/** Puts what was counted on the days before. */
function aDayLater(sql: Awaited<ReturnType<typeof openTestDatabase>>["sql"]) {
  return sql`update person_counters set day = day - 1`;
}

test("a person makes 100 invitations a day, in all organizations, also in those that are deleted", async () => {
  await using database = await openTestDatabase();
  const { db, sql } = database;
  const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
  const [first, second] = [await database.found(ann), await database.found(ann)];
  await database.put(second, bob, "admin");
  const invite = (userId: string, organizationId: string) => {
    const asked = { email: `${crypto.randomUUID()}@example.com`, role: "member" } as const;
    return answerOf(inviteMember(db, scope, acting(userId, organizationId), asked, () => {}));
  };
  for (let number = 0; number < 90; number++) assert.equal(await invite(ann, first), "done");
  await deleteOrganization(db, scope, acting(ann, first));
  const answers = await Promise.all(Array.from({ length: 15 }, () => invite(ann, second)));
  assert.equal(answers.filter((answer) => answer === "done").length, 10, answers.join());
  assert.equal(answers.filter((answer) => answer === "TOO_MANY_INVITATIONS").length, 5, answers.join());
  assert.equal(await invite(ann, await database.found(ann)), "TOO_MANY_INVITATIONS");
  assert.equal(await invite(bob, second), "done");
  await aDayLater(sql);
  assert.equal(await invite(ann, second), "done");
});

test("a person makes 20 organizations a day, also of those that are deleted", async () => {
  await using database = await openTestDatabase();
  const { db, sql } = database;
  const userId = crypto.randomUUID();
  const make = (slug = newSlug()) => createOrganization(db, scope, { userId }, { name: "Bakery", slug });
  const taken = newSlug();
  await createOrganization(db, scope, { userId: crypto.randomUUID() }, { name: "Bakery", slug: taken });
  for (let number = 0; number < 20; number++) {
    assert.equal(await answerOf(make(taken)), "SLUG_TAKEN", "which does not count");
    const { result } = await make();
    await deleteOrganization(db, scope, acting(userId, result.id));
  }
  assert.equal(await answerOf(make()), "TOO_MANY_ORGANIZATIONS");
  await aDayLater(sql);
  assert.equal(await answerOf(make()), "done");
});

test("what was counted is forgotten after two days", async () => {
  await using database = await openTestDatabase();
  await database.found(crypto.randomUUID());
  const left = async () => {
    await sweepPersonCounters(database.jobDb).run(scope.signal);
    return (await database.sql`select 1 from person_counters`).length;
  };
  for (const expected of [1, 1, 1, 0]) {
    assert.equal(await left(), expected);
    await aDayLater(database.sql);
  }
});
