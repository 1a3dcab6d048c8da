import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { access } from "./service.ts";
import { told } from "./testing.ts";

describe("roles", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access] });
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(AccessInternalService, "operator", "access");
  const newName = () => `r${crypto.randomUUID()}`;

  test("built-in roles are listed first, then the made ones by name", async () => {
    const stem = newName();
    const names = [`${stem}-b`, `${stem}a`];
    for (const name of names.toReversed()) await operator().createRole({ name, description: "made" });

    const { roles } = await operator().listRoles({});

    const builtIn = roles.slice(0, 3).map(({ name, builtIn }) => ({ name, builtIn }));
    assert.deepEqual(
      builtIn,
      ["admin", "artist", "user"].map((name) => ({ name, builtIn: true })),
    );
    const made = roles.filter(({ name }) => name.startsWith(stem));
    assert.deepEqual(
      made.map(({ name }) => name),
      names,
    );
    assert.ok(roles.slice(3).every(({ builtIn }) => !builtIn));
  });

  test("a role is made once, however many make it at the same time, and one event tells of it", async () => {
    const name = newName();
    const tries = Array.from({ length: 20 }, (_, number) => operator().createRole({ name, description: `${number}` }));

    const outcomes = await Promise.allSettled(tries);

    const made = outcomes.filter((outcome) => outcome.status === "fulfilled");
    const refused = outcomes.filter((outcome) => outcome.status === "rejected");
    assert.equal(made.length, 1);
    assert.deepEqual(new Set(refused.map(({ reason }) => reasonOf(reason))), new Set(["ROLE_EXISTS"]));
    const { roles } = await operator().listRoles({});
    assert.deepEqual(
      roles.find((role) => role.name === name),
      made[0]?.value.role,
    );
    assert.deepEqual(await createdEvents(system, name), [name]);
  });

  test("the name of a built-in role is taken", async () => {
    for (const name of ["admin", "artist", "member", "owner", "user"]) {
      await assert.rejects(operator().createRole({ name }), { code: Code.AlreadyExists });
      assert.deepEqual(await createdEvents(system, name), []);
    }
  });

  test("a name that breaks the contract's rule makes no role", async () => {
    for (const name of ["", "a", "1st", "Support", "a b", `a${"b".repeat(50)}`]) {
      await assert.rejects(operator().createRole({ name }), (error) => reasonOf(error) === "INVALID_REQUEST");
    }
  });
});

/** The names that the events about one role carry. */
async function createdEvents(system: TestSystem, name: string): Promise<unknown[]> {
  return (await told(system)).map(({ fact }) => fact.name).filter((told) => told === name);
}
