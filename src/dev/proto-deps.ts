/**
 * Lays out, in .proto-deps, the third-party protos that ours import: those that npm packages carry as text are copied,
 * and buf/validate is printed from the descriptor inside @bufbuild/protovalidate. So buf needs no network, and nothing of
 * others is committed. Run by `make gen`.
 */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { DescEnum, DescExtension, DescField, DescFile, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const root = join(import.meta.dirname, "../..");
const outFolder = join(root, ".proto-deps");
const resolve = createRequire(import.meta.url).resolve;
const packageFolder = (name: string) => dirname(resolve(`${name}/package.json`));

const copies: [from: string, to: string][] = [
  [join(packageFolder("grpc-health-check"), "proto/health/v1/health.proto"), "grpc/health/v1/health.proto"],
  ...["v1", "v1alpha"].map((version): [string, string] => [
    join(packageFolder("@grpc/reflection"), `build/proto/grpc/reflection/${version}/reflection.proto`),
    `grpc/reflection/${version}/reflection.proto`,
  ]),
  [join(packageFolder("google-proto-files"), "google/rpc/error_details.proto"), "google/rpc/error_details.proto"],
];

function typeName(field: DescField | DescExtension): string {
  const element = field.message ?? field.enum;
  return element ? `.${element.typeName}` : ScalarType[field.scalar!].toLowerCase();
}

function printField(field: DescField | DescExtension, indent: string): string {
  if (field.fieldKind === "map") {
    const value = field.message ?? field.enum;
    const valueType = value ? `.${value.typeName}` : ScalarType[field.scalar!].toLowerCase();
    return `${indent}map<${ScalarType[field.mapKey].toLowerCase()}, ${valueType}> ${field.name} = ${field.number};\n`;
  }
  const label = field.oneof ? "" : field.fieldKind === "list" ? "repeated " : "optional ";
  return `${indent}${label}${typeName(field)} ${field.name} = ${field.number};\n`;
}

function printEnum(desc: DescEnum, indent: string): string {
  const values = desc.values.map((value) => `${indent}  ${value.name} = ${value.number};\n`).join("");
  return `${indent}enum ${desc.name} {\n${values}${indent}}\n`;
}

function printMessage(desc: DescMessage, indent: string): string {
  const inner = `${indent}  `;
  const oneofs = desc.oneofs.map((oneof) => {
    const fields = oneof.fields.map((field) => printField(field, `${inner}  `)).join("");
    return `${inner}oneof ${oneof.name} {\n${fields}${inner}}\n`;
  });
  const extensionRanges = desc.proto.extensionRange.map(
    (range) => `${inner}extensions ${range.start} to ${range.end >= 536870912 ? "max" : range.end - 1};\n`,
  );
  const body = [
    ...desc.nestedMessages.map((message) => printMessage(message, inner)),
    ...desc.nestedEnums.map((nested) => printEnum(nested, inner)),
    ...desc.fields.filter((field) => !field.oneof).map((field) => printField(field, inner)),
    ...oneofs,
    ...extensionRanges,
  ];
  return `${indent}message ${desc.name} {\n${body.join("")}${indent}}\n`;
}

/**
 * The shape of a proto2 file: what a compiler needs to check and encode our options. Its own options, comments and
 * reserved numbers are left out; generated code takes the full descriptor from the npm package.
 */
function printFile(file: DescFile): string {
  const imports = file.proto.dependency.map((path) => `import "${path}";\n`).join("");
  const extensions = file.extensions.map(
    (extension) => `extend .${extension.extendee.typeName} {\n${printField(extension, "  ")}}\n`,
  );
  return [
    `syntax = "proto2";\npackage ${file.proto.package};\n${imports}`,
    ...file.enums.map((desc) => printEnum(desc, "")),
    ...file.messages.map((desc) => printMessage(desc, "")),
    ...extensions,
  ].join("");
}

rmSync(outFolder, { recursive: true, force: true });
for (const [from, to] of copies) {
  mkdirSync(dirname(join(outFolder, to)), { recursive: true });
  copyFileSync(from, join(outFolder, to));
}
const validateFile = join(outFolder, `${file_buf_validate_validate.name}.proto`);
mkdirSync(dirname(validateFile), { recursive: true });
writeFileSync(validateFile, printFile(file_buf_validate_validate));
