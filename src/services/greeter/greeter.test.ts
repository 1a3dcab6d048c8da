import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { greeter } from "./service.ts";

describe("greeter", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, greeter] });
  });

  after(() => system[Symbol.asyncDispose]());

  test("a person is greeted by the name they give", async () => {
    const { accessToken } = await system.newUser();

    const { message } = await system.asUser(GreeterService, accessToken).sayHello({ name: "Zoë" });

    assert.equal(message, "Hello, Zoë!");
  });

  test("a name has 1 to 100 code points", async () => {
    const { accessToken } = await system.newUser();
    const client = system.asUser(GreeterService, accessToken);

    assert.equal((await client.sayHello({ name: "𝒜".repeat(100) })).message.length, 208);
    for (const name of ["", "a".repeat(101)]) {
      await assert.rejects(client.sayHello({ name }), (error) => reasonOf(error) === "INVALID_REQUEST");
    }
  });

  test("nobody is greeted without a token, or after logging out", async () => {
    await assert.rejects(system.asUser(GreeterService).sayHello({ name: "Ann" }), { code: Code.Unauthenticated });
    const { accessToken, refreshToken } = await system.newUser();

    await system.asUser(AuthService).logout({ refreshToken });

    const late = system.asUser(GreeterService, accessToken).sayHello({ name: "Ann" });
    await assert.rejects(late, (error) => reasonOf(error) === "UNAUTHENTICATED");
  });
});
