import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { createFileRegistry, type DescService, fromBinary, getOption, type MessageInitShape } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { access } from "../../gen/concierge/options/v1/access_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import {
  type ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflection as V1,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { systemClock } from "../clock.ts";
import { listen } from "../listener/listener.ts";
import { reflectionOf } from "./reflection.ts";

const projectFolder = join(import.meta.dirname, "../..");
const reflected: DescService[] = [GreeterService, Health];
const listedNames = [GreeterService, Health, V1, V1Alpha].map((service) => service.typeName);
const optionsFile = "concierge/options/v1/access.proto";

type Request = MessageInitShape<typeof ServerReflectionRequestSchema>;
type Query = NonNullable<Request["messageRequest"]>;

async function serve() {
  const handler = connectNodeAdapter({
    routes(router) {
      router.service(GreeterService, { sayHello: ({ name }) => ({ message: `Hello, ${name}!` }) });
      for (const { desc, implementation } of reflectionOf(reflected)) router.service(desc, implementation);
    },
  });
  const listener = await listen({ host: "127.0.0.1", port: 0, handler, clock: systemClock });
  const sessionManager = new Http2SessionManager(listener.url);
  const transport = createGrpcTransport({ baseUrl: listener.url, sessionManager });
  return {
    url: listener.url,
    transport,
    async [Symbol.asyncDispose]() {
      sessionManager.abort();
      await listener[Symbol.asyncDispose]();
    },
  };
}

/** The answers to some queries on one stream, of either version. */
async function ask(service: typeof V1 | typeof V1Alpha, ...queries: Query[]) {
  await using server = await serve();
  async function* requests() {
    for (const messageRequest of queries) yield { host: "example", messageRequest } as Request;
  }
  const client = createClient(service as typeof V1, server.transport);
  const answers: Answer[] = [];
  for await (const response of client.serverReflectionInfo(requests())) {
    assert.equal(response.validHost, "example");
    assert.equal(response.originalRequest?.messageRequest.case, queries[answers.length]!.case);
    answers.push(response.messageResponse);
  }
  return answers;
}

type Answer = ServerReflectionResponse["messageResponse"];

function filesOf(answer: Answer | undefined): FileDescriptorProto[] {
  assert.equal(answer?.case, "fileDescriptorResponse");
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

const namesOf = (answer: Answer | undefined) => filesOf(answer).map((file) => file.name);

for (const service of [V1, V1Alpha]) {
  const version = service.typeName.split(".")[2];

  test(`${version}: lists the services and itself`, async () => {
    const [answer] = await ask(service, { case: "listServices", value: "" });
    assert.equal(answer?.case, "listServicesResponse");
    assert.deepEqual(
      answer.value.service.map(({ name }) => name),
      listedNames,
    );
  });

  test(`${version}: a file comes with all it imports, and that is enough to read its options`, async () => {
    const [answer] = await ask(service, { case: "fileContainingSymbol", value: GreeterService.typeName });
    const files = filesOf(answer);
    assert.equal(files[0]?.name, "concierge/greeter/v1/greeter_service.proto");
    const registry = createFileRegistry(files[0], (name) => files.find((file) => file.name === name));
    const greeter = registry.getService(GreeterService.typeName);
    assert.deepEqual(getOption(greeter!.method.sayHello!, access).who.case, "user");
  });

  test(`${version}: what is not there is an error response NOT_FOUND, and the stream goes on`, async () => {
    const answers = await ask(
      service,
      { case: "fileByFilename", value: "no/such.proto" },
      { case: "fileByFilename", value: "concierge/greeter/v1/greeter_service" },
      { case: "fileContainingSymbol", value: "concierge.greeter.v1.No" },
      { case: "fileContainingSymbol", value: "" },
      { case: "fileContainingSymbol", value: "constructor" },
      {
        case: "fileContainingExtension",
        value: { containingType: "google.protobuf.MethodOptions", extensionNumber: 1 },
      },
      { case: "fileContainingExtension", value: { containingType: "no.such.Message", extensionNumber: 1 } },
      { case: "allExtensionNumbersOfType", value: "no.such.Message" },
      { case: "allExtensionNumbersOfType", value: GreeterService.typeName },
    );
    for (const answer of answers) {
      assert.equal(answer.case, "errorResponse");
      assert.equal(answer.value.errorCode, Code.NotFound);
      assert.match(answer.value.errorMessage, / not found$/);
    }
    assert.equal(answers.length, 9);
  });
}

test("a file is found by its name, with the imports that the stream has not carried yet", async () => {
  const [health, greeter, again, options] = await ask(
    V1,
    { case: "fileByFilename", value: "grpc/health/v1/health.proto" },
    { case: "fileByFilename", value: "concierge/greeter/v1/greeter_service.proto" },
    { case: "fileContainingSymbol", value: "concierge.greeter.v1.SayHelloRequest" },
    { case: "fileByFilename", value: optionsFile },
  );
  assert.deepEqual(namesOf(health), ["grpc/health/v1/health.proto"]);
  assert.ok(namesOf(greeter).includes(optionsFile));
  assert.ok(namesOf(greeter).includes("google/protobuf/descriptor.proto"));
  assert.deepEqual(namesOf(again), ["concierge/greeter/v1/greeter_service.proto"]);
  assert.deepEqual(namesOf(options), [optionsFile]);
});

test("everything a file declares is found by its full name", async () => {
  const symbols: Record<string, string> = {
    "concierge.greeter.v1.GreeterService.SayHello": "concierge/greeter/v1/greeter_service.proto",
    "concierge.greeter.v1.SayHelloRequest.name": "concierge/greeter/v1/greeter_service.proto",
    "concierge.options.v1.access": optionsFile,
    "concierge.options.v1.Access.who": optionsFile,
    "grpc.health.v1.HealthCheckResponse.ServingStatus": "grpc/health/v1/health.proto",
    "grpc.health.v1.HealthCheckResponse.NOT_SERVING": "grpc/health/v1/health.proto",
    "google.protobuf.FieldDescriptorProto.TYPE_GROUP": "google/protobuf/descriptor.proto",
    "google.protobuf.EDITION_2023": "google/protobuf/descriptor.proto",
  };
  const queries = Object.keys(symbols).map((value): Query => ({ case: "fileContainingSymbol", value }));
  const answers = await ask(V1, ...queries);
  assert.deepEqual(
    answers.map((answer) => namesOf(answer)[0]),
    Object.values(symbols),
  );
});

test("extensions are found by number and listed by the type they extend", async () => {
  const [file, numbers, none] = await ask(
    V1,
    {
      case: "fileContainingExtension",
      value: { containingType: access.extendee.typeName, extensionNumber: access.number },
    },
    { case: "allExtensionNumbersOfType", value: access.extendee.typeName },
    { case: "allExtensionNumbersOfType", value: "concierge.greeter.v1.SayHelloRequest" },
  );
  assert.equal(namesOf(file)[0], optionsFile);
  assert.equal(numbers?.case, "allExtensionNumbersResponse");
  assert.equal(numbers.value.baseTypeName, access.extendee.typeName);
  assert.deepEqual(numbers.value.extensionNumber, [access.number]);
  assert.equal(none?.case, "allExtensionNumbersResponse");
  assert.deepEqual(none.value.extensionNumber, []);
});

test("a request without a question ends the stream with INVALID_ARGUMENT", async () => {
  const isInvalid = (error: unknown) => ConnectError.from(error).code === Code.InvalidArgument;
  await assert.rejects(ask(V1, { case: undefined }), isInvalid);
});

for (const version of ["grpc-v1", "grpc-v1alpha"]) {
  test(`buf curl lists and calls by ${version} reflection alone`, async () => {
    await using server = await serve();
    const bufCurl = async (...args: string[]) => {
      const all = ["curl", "--reflect-protocol", version, "--http2-prior-knowledge", ...args];
      const { stdout } = await promisify(execFile)(join(projectFolder, "node_modules/.bin/buf"), all, { cwd: "/" });
      return stdout;
    };
    const services = await bufCurl("--list-services", server.url);
    assert.deepEqual(services.trim().split("\n").sort(), [...listedNames].sort());
    const sayHello = `${server.url}/${GreeterService.typeName}/SayHello`;
    const answer = await bufCurl("--protocol", "grpc", "--data", '{"name":"Ann"}', sayHello);
    assert.deepEqual(JSON.parse(answer), { message: "Hello, Ann!" });
  });
}
