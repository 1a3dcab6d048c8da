/** What an Any may hold in JSON, which spells it out: the messages that a contract's file has or imports. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Any, AnySchema, DurationSchema, EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { SayHelloRequestSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { sendHttp } from "../testing/http.ts";

const access = { who: { case: "public", value: {} } } as const;
const service = testService("AnyService", {
  Echo: { input: AnySchema, output: AnySchema, access },
  Greet: { input: SayHelloRequestSchema, output: EmptySchema, access },
});
const implementation = {
  echo: (message: Any) => message,
  greet: () => ({}),
} as unknown as ServiceImpl<typeof service>;

describe("an Any in JSON", () => {
  let edge: Edge;
  before(async () => {
    edge = await startEdge({ implementations: [{ desc: service, implementation }] });
  });
  after(() => edge[Symbol.asyncDispose]());

  async function echo(http: "1.1" | "2", message: object) {
    const { status, body } = await sendHttp(http, edge.url, {
      httpMethod: "POST",
      path: `/${service.typeName}/Echo`,
      headers: [["content-type", "application/json"]],
      body: Buffer.from(JSON.stringify(message)),
    });
    return { status, answer: JSON.parse(String(body)) };
  }

  for (const http of ["1.1", "2"] as const) {
    test(`is read and written where its message is known (HTTP/${http})`, async () => {
      const message = { "@type": `type.googleapis.com/${SayHelloRequestSchema.typeName}`, name: "Ann" };
      assert.deepEqual(await echo(http, message), { status: 200, answer: message });
    });

    test(`is the client's mistake where its message is not (HTTP/${http})`, async () => {
      const unknown = { "@type": `type.googleapis.com/${DurationSchema.typeName}`, value: "1s" };
      const { status, answer } = await echo(http, unknown);
      assert.deepEqual([status, answer.code, answer.message], [400, "invalid_argument", "the message cannot be read"]);
    });
  }
});
