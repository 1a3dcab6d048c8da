/**
 * Contracts that exist in tests only: services put together from message types that are there already, so that a rule of
 * the edge can be tested with methods that no real service has (one that hangs, one without an access rule).
 */
import {
  create,
  createFileRegistry,
  type DescMessage,
  type DescMethodUnary,
  type DescService,
  type MessageInitShape,
  setExtension,
} from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  MethodDescriptorProtoSchema,
  type MethodOptions_IdempotencyLevel,
  MethodOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import { AccessSchema, access, file_concierge_options_v1_access } from "../../gen/concierge/options/v1/access_pb.ts";
import { file_concierge_options_v1_limits, max_request_bytes } from "../../gen/concierge/options/v1/limits_pb.ts";

export interface TestMethod {
  input: DescMessage;
  output: DescMessage;
  /** The option of the method; none when left out. */
  access?: MessageInitShape<typeof AccessSchema>;
  idempotency?: MethodOptions_IdempotencyLevel;
  /** Who sends a stream of messages; nobody unless told otherwise. */
  stream?: "client" | "server" | "both";
  maxRequestBytes?: number;
}

/** A service "test.v1.<name>" with these methods, by name. */
export function testService(name: string, methods: Record<string, TestMethod>): DescService {
  const used = Object.values(methods).flatMap(({ input, output }) => [input.file, output.file]);
  const options = [file_concierge_options_v1_access, file_concierge_options_v1_limits];
  const dependencies = [...new Set([...used, ...options])];
  const proto = create(FileDescriptorProtoSchema, {
    name: `test/v1/${name}.proto`,
    package: "test.v1",
    syntax: "proto3",
    dependency: dependencies.map((file) => file.proto.name),
    service: [{ name, method: Object.entries(methods).map(([method, parts]) => methodProto(method, parts)) }],
  });
  const registry = createFileRegistry(proto, (file) =>
    dependencies.find((dependency) => dependency.proto.name === file),
  );
  return registry.getService(`test.v1.${name}`)!;
}

/** One unary method of such a service; `I` and `O` are the types it was made of. */
export function methodOf<I extends DescMessage, O extends DescMessage>(service: DescService, name: string) {
  const method = service.methods.find((candidate) => candidate.name === name);
  if (!method) throw new Error(`${service.typeName} has no method ${name}`);
  return method as DescMethodUnary<I, O>;
}

function methodProto(name: string, { input, output, access: rule, idempotency, stream, maxRequestBytes }: TestMethod) {
  const options = create(MethodOptionsSchema, idempotency === undefined ? {} : { idempotencyLevel: idempotency });
  if (rule) setExtension(options, access, create(AccessSchema, rule));
  if (maxRequestBytes !== undefined) setExtension(options, max_request_bytes, maxRequestBytes);
  return create(MethodDescriptorProtoSchema, {
    name,
    inputType: `.${input.typeName}`,
    outputType: `.${output.typeName}`,
    clientStreaming: stream === "client" || stream === "both",
    serverStreaming: stream === "server" || stream === "both",
    options,
  });
}
