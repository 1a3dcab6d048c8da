/** What people change of themselves, and what they cannot. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserUpdatedSchema } from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { user } from "./service.ts";

describe("updates of people", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, user] });
  });

  after(() => system[Symbol.asyncDispose]());

  const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;

  test("what the mask names is changed, the rest stays, and one event tells of it", async () => {
    const { userId, accessToken } = await system.newUser({ firstName: "Ann", lastName: "Lee" });
    const person = system.asUser(UserService, accessToken);
    const { user: before } = await person.getMe({});

    const change = { firstName: "Zoë", lastName: "not named", locale: "pt-BR" };
    const { user: changed } = await person.updateUser({ ...change, updateMask: { paths: ["locale", "first_name"] } });

    assert.deepEqual(changed, { ...before, firstName: "Zoë", locale: "pt-BR" });
    assert.deepEqual((await person.getMe({})).user, changed);
    await person.updateUser({ ...change, updateMask: { paths: ["first_name", "locale", "first_name"] } });
    const names = { firstName: "Zoë", lastName: "Lee", locale: "pt-BR" };
    assert.deepEqual(await updates(system, userId), [{ userId, ...names }]);

    await person.updateUser({ updateMask: { paths: ["last_name"] } });
    assert.equal((await person.getMe({})).user?.lastName, "");
    assert.equal((await updates(system, userId)).length, 2);
  });

  test("20 changes at once are 20 events, each with one change to what the one before it told", async () => {
    const { userId, accessToken } = await system.newUser({ firstName: "Ann", lastName: "Lee" });
    const person = system.asUser(UserService, accessToken);
    await person.getMe({});

    const tries = Array.from({ length: 20 }, (_, number) => {
      const [field, path] = number % 2 === 0 ? ["firstName", "first_name"] : ["lastName", "last_name"];
      return person.updateUser({ [field!]: `name ${number}`, updateMask: { paths: [path!] } });
    });
    await Promise.all(tries);

    const events = await updates(system, userId);
    assert.equal(events.length, 20);
    let told = { firstName: "Ann", lastName: "Lee" };
    for (const event of events) {
      assert.notEqual(event.firstName === told.firstName, event.lastName === told.lastName, JSON.stringify(events));
      told = event;
    }
    const { user: now } = await person.getMe({});
    assert.deepEqual([now?.firstName, now?.lastName], [told.firstName, told.lastName]);
  });

  test("a mask that names nothing, or what cannot be changed, is refused and changes nothing", async () => {
    const { userId, accessToken } = await system.newUser();
    const person = system.asUser(UserService, accessToken);
    const masks = [[], ["email"], ["first_name", "roles"], ["update_mask"], ["firstName"], ["*"], [""], ["user_id"]];

    for (const updateMask of [undefined, ...masks.map((paths) => ({ paths }))]) {
      const call = () => person.updateUser({ firstName: "Eve", ...(updateMask && { updateMask }) });
      await assert.rejects(call, because("INVALID_FIELD_MASK"), updateMask?.paths.join());
      await assert.rejects(call, { code: Code.InvalidArgument });
    }
    assert.equal((await person.getMe({})).user?.firstName, "Ann");
    assert.deepEqual(await updates(system, userId), []);
  });

  test("what breaks the contract's rules is refused", async () => {
    const { accessToken } = await system.newUser();
    const person = system.asUser(UserService, accessToken);
    const broken = { first_name: { firstName: "a".repeat(101) }, last_name: { lastName: "a".repeat(101) } };
    for (const [path, fields] of Object.entries({ ...broken, locale: { locale: "not a tag" } })) {
      const call = person.updateUser({ ...fields, updateMask: { paths: [path] } });
      await assert.rejects(call, because("INVALID_REQUEST"), path);
    }
  });

  test("S-PWD-24 no update reaches e-mail, verification, kind, status or roles, whatever it is called", async () => {
    const { userId, email, accessToken } = await system.newUser();
    const person = system.asUser(UserService, accessToken);
    const { user: before } = await person.getMe({});
    const fields = {
      ...{ email: "eve@example.com", emailVerified: true, email_verified: true, phoneVerified: true, status: "ACTIVE" },
      ...{ kind: "ACCOUNT_KIND_ARTIST", roles: ["admin"], userId: crypto.randomUUID(), artist: { stageName: "Eve" } },
    };
    const post = async (message: object) => {
      const response = await fetch(`${system.publicUrl}/${UserService.typeName}/UpdateUser`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${accessToken}` },
        body: JSON.stringify(message),
      });
      return { status: response.status, text: await response.text() };
    };

    for (const [name, value] of Object.entries(fields)) {
      const named = await post({ [name]: value, updateMask: name });
      assert.equal(named.status, 400, `${name}: ${named.text}`);
      const smuggled = await post({ [name]: value, locale: "en", updateMask: "locale" });
      // 404: whose profile it is may be said, but not anybody's.
      assert.ok([200, 400, 404].includes(smuggled.status), `${name}: ${smuggled.text}`);
    }

    const { user: now } = await person.getMe({});
    assert.deepEqual({ ...now, locale: "" }, before);
    assert.deepEqual([now?.email, now?.kind, now?.roles], [email, AccountKind.USER, ["user"]]);
    const { account } = await system.asService(AuthInternalService, "user", "auth").getAccount({ userId });
    assert.deepEqual([account?.email, account?.kind], [email, AccountKind.USER]);
    assert.deepEqual((await system.asUser(AccessService, accessToken).getMyRoles({})).roles, ["user"]);
  });
});

/** The updates of one person that were published, in their order. */
async function updates({ database }: TestSystem, userId: string) {
  const sql = connect(database("user").runtimeUrl, { applicationName: "test" });
  try {
    const rows = await sql`
      select payload from feed_outbox
      where subject = ${`user/${userId}`} and type = ${UserUpdatedSchema.typeName} order by id`;
    return rows.map(({ payload }) => {
      const { $typeName, ...fact } = fromBinary(UserUpdatedSchema, payload);
      return fact;
    });
  } finally {
    await sql.end();
  }
}
