import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "../auth/service.ts";
import { greeter } from "./service.ts";

type Greeter = Client<typeof GreeterService>;

/** Every way in which a client of connect-node can call. */
const ways: [name: string, open: (baseUrl: string, sessionManager: Http2SessionManager) => Transport][] = [
  ["gRPC", (baseUrl, sessionManager) => createGrpcTransport({ baseUrl, sessionManager })],
  [
    "gRPC-Web over HTTP/2",
    (baseUrl, sessionManager) => createGrpcWebTransport({ baseUrl, httpVersion: "2", sessionManager }),
  ],
  [
    "Connect over HTTP/2",
    (baseUrl, sessionManager) => createConnectTransport({ baseUrl, httpVersion: "2", sessionManager }),
  ],
  ["gRPC-Web over HTTP/1.1", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
  ["Connect over HTTP/1.1", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
];

const isInvalid = (error: unknown) => {
  assert.equal(reasonOf(error), "INVALID_REQUEST", String(error));
  return true;
};

async function* namesOf(...names: string[]) {
  for (const name of names) yield { name };
}

/** Reads a stream to its end. */
async function all<Message>(answers: AsyncIterable<Message>): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const message of answers) messages.push(message);
  return messages;
}

/** Says one name after the other, each when the one before was greeted; returns the greetings. */
async function converse(client: Greeter, names: string[], headers: Record<string, string>): Promise<string[]> {
  const greetings: string[] = [];
  let greeted = Promise.withResolvers<void>();
  async function* say() {
    for (const name of names) {
      greeted = Promise.withResolvers();
      yield { name };
      await greeted.promise;
    }
  }
  for await (const { message } of client.sayHelloBidirectional(say(), { headers })) {
    greetings.push(message);
    greeted.resolve();
  }
  return greetings;
}

describe("greeter", () => {
  let system: TestSystem;
  let sessionManager: Http2SessionManager;
  let headers: { authorization: string };

  before(async () => {
    system = await startTestSystem({ definitions: [auth, greeter] });
    sessionManager = new Http2SessionManager(system.publicUrl);
    headers = { authorization: `Bearer ${(await system.newUser()).accessToken}` };
  });

  after(async () => {
    sessionManager.abort();
    await system[Symbol.asyncDispose]();
  });

  const over = (open: (typeof ways)[number][1]) => createClient(GreeterService, open(system.publicUrl, sessionManager));
  const grpc = () => over(ways[0]![1]);

  for (const [way, open] of ways) {
    test(`unary: a person is greeted by the name they give, over ${way}`, async () => {
      const client = over(open);
      assert.equal((await client.sayHello({ name: "Zoë" }, { headers })).message, "Hello, Zoë!");
      assert.equal((await client.sayHello({ name: "𝒜".repeat(100) }, { headers })).message.length, 208);
      for (const name of ["", "a".repeat(101)]) await assert.rejects(client.sayHello({ name }, { headers }), isInvalid);
    });

    test(`server stream: as many greetings as asked for, over ${way}`, async () => {
      const client = over(open);
      const interval = { nanos: 1_000_000 };
      assert.deepEqual(
        (await all(client.sayHelloStream({ name: "Ann", count: 3, interval }, { headers }))).map(
          ({ message, number }) => [message, number],
        ),
        [1, 2, 3].map((number) => ["Hello, Ann!", number]),
      );
      assert.equal((await all(client.sayHelloStream({ name: "Ann", count: 100 }, { headers }))).length, 100);
      for (const request of [
        { name: "Ann" },
        { name: "Ann", count: 101 },
        { name: "", count: 1 },
        { name: "Ann", count: 1, interval: { seconds: 11n } },
        { name: "Ann", count: 1, interval: { nanos: -1 } },
      ]) {
        await assert.rejects(all(client.sayHelloStream(request, { headers })), isInvalid);
      }
    });

    test(`client stream: all are greeted at once, over ${way}`, async () => {
      const client = over(open);
      const greet = (...names: string[]) => client.sayHelloClientStream(namesOf(...names), { headers });
      assert.equal((await greet("Ann", "Bob", "Cleo")).message, "Hello, Ann, Bob, and Cleo!");
      assert.match((await greet(...Array(100).fill("𝒜".repeat(100)))).message, /^Hello, 𝒜/u);
      for (const names of [[], ["Ann", ""], Array(101).fill("Ann")]) await assert.rejects(greet(...names), isInvalid);
    });
  }

  for (const [way, open] of ways.slice(0, 3)) {
    test(`both ways: each name is greeted as it arrives, over ${way}`, async () => {
      const client = over(open);
      assert.deepEqual(await converse(client, ["Ann", "Bob"], headers), ["Hello, Ann!", "Hello, Bob!"]);
      assert.deepEqual(await all(client.sayHelloBidirectional(namesOf(), { headers })), []);
      const answers = client.sayHelloBidirectional(namesOf("Ann", ""), { headers })[Symbol.asyncIterator]();
      assert.equal((await answers.next()).value?.message, "Hello, Ann!");
      await assert.rejects(answers.next(), isInvalid);
    });
  }

  for (const [way, open] of ways.slice(3)) {
    test(`both ways needs HTTP/2: refused over ${way}`, async () => {
      await assert.rejects(all(over(open).sayHelloBidirectional(namesOf("Ann"), { headers })));
    });
  }

  test("nobody is greeted without a token, in any pattern, or after logging out", async () => {
    const { accessToken, refreshToken } = await system.newUser();
    await system.asUser(AuthService).logout({ refreshToken });
    const greet = () => grpc().sayHello({ name: "Ann" }, { headers: { authorization: `Bearer ${accessToken}` } });
    await until("the logout is known", () =>
      greet().then(
        () => false,
        () => true,
      ),
    );
    for (const refused of [{}, { authorization: `Bearer ${accessToken}` }]) {
      for (const call of [
        grpc().sayHello({ name: "Ann" }, { headers: refused }),
        all(grpc().sayHelloStream({ name: "Ann", count: 1 }, { headers: refused })),
        grpc().sayHelloClientStream(namesOf("Ann"), { headers: refused }),
        all(grpc().sayHelloBidirectional(namesOf("Ann"), { headers: refused })),
      ]) {
        await assert.rejects(call, { code: Code.Unauthenticated });
      }
    }
  });

  test("a stream ends with its deadline, while it waits for the next greeting", async () => {
    const request = { name: "Ann", count: 2, interval: { seconds: 10n } };
    // A deadline that the server sees first: the client's own would end the call without asking it.
    const answers = grpc().sayHelloStream(request, { headers: { ...headers, "grpc-timeout": "100m" } });
    await assert.rejects(all(answers), { code: Code.DeadlineExceeded });
  });

  test("a client that leaves ends its stream, while it waits for the next greeting", async () => {
    const leaving = new AbortController();
    const request = { name: "Ann", count: 2, interval: { seconds: 10n } };
    const answers = grpc().sayHelloStream(request, { headers, signal: leaving.signal })[Symbol.asyncIterator]();
    await answers.next();

    leaving.abort();

    await assert.rejects(answers.next());
    const { procedure } = await until("the call is logged as over", () =>
      system.logLines.find(({ code }) => code === "Canceled"),
    );
    assert.equal(procedure, "/concierge.greeter.v1.GreeterService/SayHelloStream");
  });
});
