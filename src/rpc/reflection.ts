/**
 * gRPC server reflection, v1 and v1alpha: lets buf curl, grpcurl and the like call our methods without our protos.
 * It tells every method there is, so it is mounted only where the configuration wants it.
 */
import {
  create,
  type DescFile,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
  ServerReflection as V1,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import {
  ServerReflectionRequestSchema as AlphaRequestSchema,
  ServerReflectionResponseSchema as AlphaResponseSchema,
  ServerReflection as V1Alpha,
} from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { fail } from "../errors.ts";
import { type Implementation, implement } from "../service.ts";

/** Reflection, in both versions, for these services and for itself. */
export function reflectionOf(services: DescService[]): Implementation[] {
  const listed = [...services, V1, V1Alpha];
  const index = indexFiles(listed.map((service) => service.file));
  const serviceNames = listed.map((service) => service.typeName);
  const v1: ServiceImpl<typeof V1> = {
    async *serverReflectionInfo(requests) {
      const sentFiles = new Set<string>();
      for await (const request of requests) {
        const messageResponse = answer(index, serviceNames, request, sentFiles);
        yield { validHost: request.host, originalRequest: request, messageResponse };
      }
    },
  };
  return [implement(V1, v1), implement(V1Alpha, asV1Alpha(v1))];
}

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** One answer. `sentFiles` are the names of files that this stream has carried; those it answers with are added. */
function answer(
  index: FileIndex,
  serviceNames: string[],
  request: ServerReflectionRequest,
  sentFiles: Set<string>,
): Answer {
  const { messageRequest } = request;
  switch (messageRequest.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: serviceNames.map((name) => ({ name })) } };
    case "fileByFilename":
      return fileAnswer(index.byName.get(messageRequest.value), sentFiles, `file ${messageRequest.value}`);
    case "fileContainingSymbol":
      return fileAnswer(index.bySymbol.get(messageRequest.value), sentFiles, `symbol ${messageRequest.value}`);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = messageRequest.value;
      const file = index.byExtension.get(containingType)?.get(extensionNumber);
      return fileAnswer(file, sentFiles, `extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType":
      return extensionNumbersAnswer(index, messageRequest.value);
    case undefined:
      throw fail(Code.InvalidArgument, "INVALID_REQUEST", "message_request is not set");
  }
}

/** The file, and those it imports, directly or not, that the stream has not carried yet. */
function fileAnswer(file: DescFile | undefined, sentFiles: Set<string>, what: string): Answer {
  if (!file) return notFound(what);
  const imports = withImports([file]).slice(1);
  const files = [file, ...imports.filter((imported) => !sentFiles.has(imported.name))];
  for (const { name } of files) sentFiles.add(name);
  const fileDescriptorProto = files.map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function extensionNumbersAnswer(index: FileIndex, baseTypeName: string): Answer {
  const numbers = index.byExtension.get(baseTypeName);
  if (!numbers) return notFound(`message ${baseTypeName}`);
  return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber: [...numbers.keys()] } };
}

function notFound(what: string): Answer {
  return { case: "errorResponse", value: { errorCode: Code.NotFound, errorMessage: `${what} not found` } };
}

interface FileIndex {
  /** By the name in import statements: "google/protobuf/duration.proto". */
  byName: Map<string, DescFile>;
  /** By the full name of anything declared in the file: "google.protobuf.Duration.seconds". */
  bySymbol: Map<string, DescFile>;
  /** By the full name of a message, then the number of its extension. Every message has an entry. */
  byExtension: Map<string, Map<number, DescFile>>;
}

function indexFiles(roots: DescFile[]): FileIndex {
  const index: FileIndex = { byName: new Map(), bySymbol: new Map(), byExtension: new Map() };
  const files = withImports(roots);
  for (const file of files) {
    index.byName.set(file.proto.name, file);
    for (const symbol of symbolsOf(file)) index.bySymbol.set(symbol, file);
    for (const type of nestedTypes(file)) if (type.kind === "message") index.byExtension.set(type.typeName, new Map());
  }
  for (const file of files) {
    for (const type of nestedTypes(file)) {
      if (type.kind === "extension") index.byExtension.get(type.extendee.typeName)?.set(type.number, file);
    }
  }
  return index;
}

/** These files and all that they import, directly or not, each once; the first is the first of `roots`. */
function withImports(roots: DescFile[]): DescFile[] {
  const files = new Set<DescFile>();
  const visit = (file: DescFile) => {
    if (files.has(file)) return;
    files.add(file);
    file.dependencies.forEach(visit);
  };
  roots.forEach(visit);
  return [...files];
}

/** Full names of all that a file declares. */
function* symbolsOf(file: DescFile): Iterable<string> {
  for (const type of nestedTypes(file)) {
    yield type.typeName;
    switch (type.kind) {
      case "service":
        for (const method of type.methods) yield `${type.typeName}.${method.name}`;
        break;
      case "message":
        for (const member of [...type.fields, ...type.oneofs]) yield `${type.typeName}.${member.name}`;
        break;
      case "enum": {
        // The values of an enum are named beside it, not inside it.
        const scope = type.typeName.slice(0, -type.name.length);
        for (const value of type.values) yield `${scope}${value.name}`;
        break;
      }
    }
  }
}

/** The older version has the same messages under another package, so the same bytes. */
function asV1Alpha(v1: ServiceImpl<typeof V1>): ServiceImpl<typeof V1Alpha> {
  return {
    async *serverReflectionInfo(requests, context) {
      for await (const response of v1.serverReflectionInfo(fromAlpha(requests), context)) {
        const bytes = toBinary(ServerReflectionResponseSchema, create(ServerReflectionResponseSchema, response));
        yield fromBinary(AlphaResponseSchema, bytes);
      }
    },
  };
}

async function* fromAlpha(requests: AsyncIterable<MessageShape<typeof AlphaRequestSchema>>) {
  for await (const request of requests) {
    yield fromBinary(ServerReflectionRequestSchema, toBinary(AlphaRequestSchema, request));
  }
}
