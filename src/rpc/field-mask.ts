/** Requests that change some fields of something: which ones, their field mask says. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { Code, fail } from "../errors.ts";

type MaskedRequest = { $typeName: string; updateMask?: FieldMask };

/** Some fields of a request that may be changed: all that it has but the mask. */
export type Changes<Request extends MaskedRequest> = Partial<Omit<Request, keyof MaskedRequest | "$unknown">>;

/**
 * The fields that the request's mask names. INVALID_ARGUMENT / INVALID_FIELD_MASK if it names none, or one that the request does not
 * have: an update that was meant to change something else must not look as if it had. `fixed` are fields that say what is to be
 * changed, and cannot be changed themselves.
 */
export function changesOf<Desc extends DescMessage>(
  desc: Desc,
  request: MessageShape<Desc> & MaskedRequest,
  fixed: readonly string[] = [],
): Changes<MessageShape<Desc> & MaskedRequest> {
  const paths = new Set(request.updateMask?.paths);
  const named = desc.fields.filter(({ name }) => paths.has(name) && name !== "update_mask" && !fixed.includes(name));
  if (named.length === 0 || named.length < paths.size) {
    throw fail(Code.InvalidArgument, "INVALID_FIELD_MASK", "update_mask must name fields that this call can change");
  }
  const values = request as Record<string, unknown>;
  return Object.fromEntries(named.map(({ localName }) => [localName, values[localName]])) as Changes<typeof request>;
}
