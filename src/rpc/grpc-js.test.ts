import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  create,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type Client,
  compressionAlgorithms,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { auth } from "../services/auth/service.ts";
import { greeter } from "../services/greeter/service.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";

/** gRPC's own client for Node, which shares no code with ours. */
describe("grpc-js as the client", () => {
  let system: TestSystem;
  let client: Client;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, greeter] });
    const AnyClient = makeGenericClientConstructor({}, "any");
    client = new AnyClient(new URL(system.publicUrl).host, credentials.createInsecure(), {
      "grpc.default_compression_algorithm": compressionAlgorithms.gzip,
    });
  });

  after(async () => {
    client.close();
    await system[Symbol.asyncDispose]();
  });

  function call<M extends DescMethodUnary>(
    method: M,
    request: MessageInitShape<M["input"]>,
    metadata = new Metadata(),
  ): Promise<MessageShape<M["output"]>> {
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<M["input"]>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes) as MessageShape<M["output"]>,
        create(method.input, request) as MessageShape<M["input"]>,
        metadata,
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
    });
  }

  test("logs in and says hello, with compressed requests", async () => {
    const user = await system.newUser();
    const session = await call(AuthService.method.login, { email: user.email, password: user.password });
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${session.accessToken}`);
    const answer = await call(
      GreeterService.method.sayHello,
      { name: "a name worth compressing ".repeat(4) },
      metadata,
    );
    assert.match(answer.message, /^Hello, a name worth compressing/);
  });

  test("gets codes, messages and details as gRPC defines them", async () => {
    const refused = await call(GreeterService.method.sayHello, { name: "Ann" }).catch((error: ServiceError) => error);
    assert.ok(refused instanceof Error);
    assert.equal(refused.code, status.UNAUTHENTICATED);
    assert.equal(refused.details, "unauthenticated");
    assert.equal(refused.metadata.get("grpc-status-details-bin").length, 1);
  });
});
