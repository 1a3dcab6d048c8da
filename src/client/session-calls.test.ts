import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, fail, type Reason, reasonOf } from "../errors.ts";
import { SeenRevisions } from "./consistency.ts";
import { callAs } from "./session-calls.ts";

const tokens = {
  current: async () => ({ token: "a.b.c" }) as never,
  next: () => Promise.reject(new Error("no other token is needed")),
};

/** A greeter that refuses its first calls, and counts all of them. */
function greeterThatRefuses(times: number, refusal: () => ConnectError) {
  let calls = 0;
  const answer = () => {
    if (++calls <= times) throw refusal();
    return { message: "Hello!" };
  };
  const transport = createRouterTransport(({ service }) => {
    service(GreeterService, {
      sayHello: answer,
      async *sayHelloStream() {
        yield answer();
      },
    });
  });
  return { client: createClient(GreeterService, callAs(tokens, new SeenRevisions(), transport)), calls: () => calls };
}

const refusal = (reason: Reason, retryAfterMs = 1) => fail(Code.Unavailable, reason, "not now", { retryAfterMs });

test("a call whose session could not be checked is made again, three times at most", async () => {
  const soon = greeterThatRefuses(2, () => refusal("AUTH_STALE"));
  assert.equal((await soon.client.sayHello({})).message, "Hello!");
  assert.equal(soon.calls(), 3);
  const never = greeterThatRefuses(9, () => refusal("AUTH_STALE"));
  await assert.rejects(never.client.sayHello({}), (error) => reasonOf(error) === "AUTH_STALE");
  assert.equal(never.calls(), 3);
});

test("a stream whose session could not be checked begins again", async () => {
  const { client, calls } = greeterThatRefuses(1, () => refusal("AUTH_STALE"));
  const messages: string[] = [];
  for await (const { message } of client.sayHelloStream({})) messages.push(message);
  assert.deepEqual([messages, calls()], [["Hello!"], 2]);
});

test("R-NET-08 what may have begun is not made again, nor what could not end in time", async () => {
  const broken = greeterThatRefuses(1, () => refusal("DEPENDENCY_UNAVAILABLE"));
  await assert.rejects(broken.client.sayHello({}), (error) => reasonOf(error) === "DEPENDENCY_UNAVAILABLE");
  assert.equal(broken.calls(), 1);
  const late = greeterThatRefuses(1, () => refusal("AUTH_STALE", 60_000));
  await assert.rejects(late.client.sayHello({}, { timeoutMs: 5_000 }), (error) => reasonOf(error) === "AUTH_STALE");
  assert.equal(late.calls(), 1);
});
