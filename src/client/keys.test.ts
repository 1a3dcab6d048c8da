/** Keys that cannot be right are refused at once, in words that hold nothing of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createServiceKey } from "../token/key-making.ts";
import { readServiceKeys } from "./keys.ts";

const key = createServiceKey("shop", "auth", "backend");

test("the newest key of each callee signs, from the text of the file or from what is in it", () => {
  const older = createServiceKey("shop", "auth", "backend");
  const other = createServiceKey("shop", "access", "backend");
  const ring = { keys: [key, older, other] };
  for (const keys of [ring, JSON.stringify(ring, null, 2)]) {
    const found = readServiceKeys(keys, ["auth", "access"]);
    assert.deepEqual([found.get("auth"), found.get("access")], [key, other]);
  }
});

test("S-SDK-09 whatever is wrong with a key is said without a word of it", () => {
  const wrong: [keys: unknown, said: RegExp][] = [
    [`{"keys": [{"secret": "${key.secret}"`, /^keys is not valid JSON/],
    ["/etc/concierge/shop.json", /not its name/],
    ["null", /must be \{keys/],
    [{ keys: key }, /must be \{keys/],
    [{ keys: [key, key.secret] }, /index 1 is no object/],
    [{ keys: [{ ...key, kid: "" }] }, /no valid kid/],
    [{ keys: [{ ...key, caller: key.secret }] }, /no valid caller/],
    [{ keys: [{ ...key, callee: undefined }] }, /no valid callee/],
    [{ keys: [{ ...key, kind: key.secret }] }, /no valid kind/],
    [{ keys: [{ ...key, secret: `${key.secret}=` }] }, /not base64url/],
    [{ keys: [{ ...key, secret: key.secret.slice(0, 30) }] }, /less than 32 bytes/],
    [{ keys: [key] }, /none for calls of access, organization/],
  ];
  for (const [keys, said] of wrong) {
    assert.throws(
      () => readServiceKeys(keys as string, ["auth", "access", "organization"]),
      (error: Error) => {
        assert.ok(error instanceof TypeError);
        assert.match(error.message, said);
        assert.ok(!error.message.includes(key.secret.slice(0, 20)) && error.cause === undefined);
        return true;
      },
    );
  }
});
