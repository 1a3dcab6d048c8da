/** Which text is let through to be stored. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { ListValueSchema, StringValueSchema, StructSchema, ValueSchema } from "@bufbuild/protobuf/wkt";
import { CreateNotificationRequestSchema } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { AccessSchema } from "../../gen/concierge/options/v1/access_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { refuseUnstorableText } from "./text.ts";

const NUL = "\0";
const HALVES = ["\ud800", "\udfff", "a\udc00b", "\udc00\ud800"];

const stringValue = (text: string) => ({ kind: { case: "stringValue" as const, value: text } });
/** Every place in which a message can hold text. */
const places: Record<string, (text: string) => [DescMessage, Message]> = {
  "a field": (text) => [StringValueSchema, create(StringValueSchema, { value: text })],
  "a member of a oneof": (text) => [ValueSchema, create(ValueSchema, stringValue(text))],
  "a key of a map": (text) => [StructSchema, create(StructSchema, { fields: { [text]: stringValue("") } })],
  "a message in a map": (text) => [StructSchema, create(StructSchema, { fields: { a: stringValue(text) } })],
  "a value of a map": (text) => [
    CreateNotificationRequestSchema,
    create(CreateNotificationRequestSchema, { data: { a: text } }),
  ],
  "a list": (text) => [
    CreateNotificationRequestSchema,
    create(CreateNotificationRequestSchema, { userIds: ["", text] }),
  ],
  "a message in a list": (text) => [
    ListValueSchema,
    create(ListValueSchema, { values: [stringValue(""), stringValue(text)] }),
  ],
  "a list in a message in a oneof": (text) => [
    AccessSchema,
    create(AccessSchema, { who: { case: "callers", value: { services: [text] } } }),
  ],
};

for (const [place, messageWith] of Object.entries(places)) {
  test(`S-API-11 NUL and half a surrogate pair are refused in ${place}, and all else is let through`, () => {
    for (const text of [NUL, `a${NUL}`, ...HALVES]) {
      assert.throws(
        () => refuseUnstorableText(...messageWith(text)),
        (error: unknown) => {
          assert.equal((error as { code: Code }).code, Code.InvalidArgument);
          assert.equal(reasonOf(error), "INVALID_REQUEST");
          return !String(error).includes(text);
        },
      );
    }
    for (const text of [
      "",
      "a",
      "𝒜😀👩‍👩‍👧‍👦",
      "\u202eabc\u2066",
      "\ufeff",
      "\uffff",
      "\u0001\u007f",
      "e\u0301",
      "ﬁ",
    ]) {
      refuseUnstorableText(...messageWith(text));
    }
  });
}

test("a message without any text is let through", () => {
  refuseUnstorableText(StructSchema, create(StructSchema));
  refuseUnstorableText(AccessSchema, create(AccessSchema));
  refuseUnstorableText(AccessSchema, create(AccessSchema, { who: { case: "public", value: {} } }));
});
