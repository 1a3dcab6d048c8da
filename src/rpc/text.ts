/**
 * Text that PostgreSQL cannot store or UTF-8 cannot carry: the NUL character, and halves of surrogate pairs, which JSON
 * lets through and encoding would silently replace. Refused before the handler, so nothing is stored other than it was sent.
 */
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { Code, fail } from "../errors.ts";

/** Throws INVALID_ARGUMENT naming the first field whose text cannot be stored. */
export function refuseUnstorableText(desc: DescMessage, message: Message): void {
  for (const field of desc.fields) {
    for (const value of valuesOf(field, message as Message & Record<string, unknown>)) {
      if (typeof value === "string" && !isStorable(value)) {
        throw fail(
          Code.InvalidArgument,
          "INVALID_REQUEST",
          `${field.name}: must not hold NUL or half a surrogate pair`,
        );
      }
      if (field.message && typeof value === "object" && value !== null) {
        refuseUnstorableText(field.message, value as Message);
      }
    }
  }
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}

/** The texts and messages that a field holds; nothing for fields of other kinds. */
function valuesOf(field: DescField, message: Record<string, unknown>): unknown[] {
  const hasText = field.scalar === ScalarType.STRING || field.message !== undefined || field.fieldKind === "map";
  if (!hasText) return [];
  if (field.oneof) {
    const chosen = message[field.oneof.localName] as { case?: string; value?: unknown };
    return chosen.case === field.localName ? [chosen.value] : [];
  }
  const value = message[field.localName];
  if (value === undefined) return [];
  if (field.fieldKind === "list") return value as unknown[];
  if (field.fieldKind === "map") return [...Object.keys(value as object), ...Object.values(value as object)];
  return [value];
}
