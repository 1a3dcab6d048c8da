import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { CompactSign, compactVerify, SignJWT } from "jose";
import type { ServiceKey } from "../config.ts";
import { createTestClock } from "../testing/clock.ts";
import { type Forgery, forgeServiceToken, signParts } from "../testing/forged-service-token.ts";
import { createServiceKey } from "./key-making.ts";
import { createServiceTokenVerifier, messageDigest, signServiceToken } from "./service-token.ts";

const PROCEDURE = "/concierge.auth.v1.AuthInternalService/GetAccount";
const DIGEST = messageDigest(Buffer.from("a message"));
// A whole second, so that bounds can be hit exactly.
const NOW_SECONDS = 1_900_000_000;
const clock = createTestClock(NOW_SECONDS * 1000);
const key = createServiceKey("user", "auth", "service");
const otherKey = createServiceKey("greeter", "auth", "service");
const verify = createServiceTokenVerifier("auth", [key, otherKey], clock);

const goodClaims = {
  iss: "user",
  aud: "auth",
  proc: PROCEDURE,
  iat: NOW_SECONDS,
  exp: NOW_SECONDS + 30,
  jti: "0198c5a0-0000-7000-8000-000000000000",
  bd: DIGEST,
};

const encode = (value: string) => Buffer.from(value).toString("base64url");

const forge = (changes: Partial<Forgery> = {}) =>
  forgeServiceToken({ key, clock, procedure: PROCEDURE, digest: DIGEST, ...changes });

const whyOf = (token: string, procedure = PROCEDURE) => {
  const verified = verify(token, procedure);
  return verified.ok ? "accepted" : verified.why;
};

function assertRefused(cases: Record<string, [token: string, why: string]>): void {
  for (const [name, [token, why]] of Object.entries(cases)) assert.equal(whyOf(token), why, name);
}

describe("service tokens", () => {
  test("what is signed here verifies here, and says who calls", () => {
    const verified = verify(signServiceToken(key, PROCEDURE, DIGEST, clock), PROCEDURE);
    assert.ok(verified.ok);
    const { tokenId, ...claims } = verified.claims;
    assert.deepEqual(claims, {
      caller: "user",
      callee: "auth",
      kind: "service",
      expiresAt: NOW_SECONDS + 30,
      digest: DIGEST,
    });
    assert.match(tokenId, /^[0-9a-f-]{36}$/);
  });

  test("every token has an id of its own", () => {
    const ids = Array.from({ length: 100 }, () => {
      const verified = verify(signServiceToken(key, PROCEDURE, undefined, clock), PROCEDURE);
      return verified.ok && verified.claims.tokenId;
    });
    assert.equal(new Set(ids).size, 100);
  });

  test("any language can make one: jose's HS256 compact JWS is accepted, and jose accepts ours", async () => {
    const secret = Buffer.from(key.secret, "base64url");
    const header = { alg: "HS256", typ: "svc+jwt", kid: key.kid };
    assert.equal(whyOf(await new SignJWT(goodClaims).setProtectedHeader(header).sign(secret)), "accepted");
    const payload = Buffer.from(JSON.stringify(goodClaims, null, 2));
    assert.equal(whyOf(await new CompactSign(payload).setProtectedHeader(header).sign(secret)), "accepted");

    const ours = await compactVerify(signServiceToken(key, PROCEDURE, DIGEST, clock), secret);
    assert.deepEqual(ours.protectedHeader, header);
    const { jti, ...claims } = JSON.parse(Buffer.from(ours.payload).toString());
    const { jti: _, ...expected } = goodClaims;
    assert.deepEqual(claims, expected);
    assert.equal(typeof jti, "string");
  });

  test("the digest is the SHA-256 of the bytes, also of none", () => {
    assert.equal(messageDigest(new Uint8Array()), createHash("sha256").digest("base64url"));
    assert.equal(messageDigest(Buffer.from("abc")), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
  });

  test("S-HMAC-01 no token, garbage, another typ or alg, or another header member is refused", () => {
    assertRefused({
      empty: ["", "bad_form"],
      garbage: ["x", "bad_form"],
      "two dots": ["..", "bad_form"],
      "not JSON": [`${encode("x")}.${encode("y")}.${encode("z")}`, "bad_form"],
      "JSON that is no object": [`${encode("[]")}.${encode("null")}.${encode("1")}`, "bad_form"],
      "a user's typ": [forge({ header: { typ: "at+jwt" } }), "bad_typ"],
      "typ in capitals": [forge({ header: { typ: "SVC+JWT" } }), "bad_typ"],
      "no typ": [forge({ header: { typ: undefined } }), "bad_header"],
      "alg none": [forge({ header: { alg: "none" } }), "bad_alg"],
      "alg none without a signature": [forge({ header: { alg: "none" } }).replace(/[^.]*$/, ""), "bad_alg"],
      "HS256 without a signature": [forge().replace(/[^.]*$/, ""), "bad_signature"],
      "HS384, signed so": [forge({ header: { alg: "HS384" }, hash: "sha384" }), "bad_alg"],
      "HS256 signed with SHA-512": [forge({ hash: "sha512" }), "bad_signature"],
      ES256: [forge({ header: { alg: "ES256" } }), "bad_alg"],
      "alg in small letters": [forge({ header: { alg: "hs256" } }), "bad_alg"],
      "alg in a list": [forge({ header: { alg: ["HS256"] } }), "bad_header"],
      crit: [forge({ header: { crit: ["exp"] } }), "bad_header"],
      zip: [forge({ header: { zip: "DEF" } }), "bad_header"],
      jwk: [forge({ header: { jwk: { kty: "oct", k: key.secret } } }), "bad_header"],
      "longer than 2,048 characters": [forge({ claims: { note: "x".repeat(2_000) } }), "too_long"],
    });
  });

  test("S-HMAC-01 one spelling per token: padding, another alphabet, white space, trailing bits are refused", () => {
    const token = signServiceToken(key, PROCEDURE, DIGEST, clock);
    const [head, claims, signature] = token.split(".") as [string, string, string];
    // 32 bytes are 43 characters, of which the last carries two bits that decoders ignore.
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const respelled = signature.slice(0, -1) + alphabet[alphabet.indexOf(signature.at(-1)!) ^ 1];
    assert.deepEqual(Buffer.from(respelled, "base64url"), Buffer.from(signature, "base64url"));
    assertRefused({
      "trailing bits": [`${head}.${claims}.${respelled}`, "bad_form"],
      padding: [`${token}=`, "bad_form"],
      "new line": [`${token}\n`, "bad_form"],
      space: [` ${token}`, "bad_form"],
      "a fourth part": [`${token}.${signature}`, "bad_form"],
      "two parts": [`${head}.${claims}`, "bad_form"],
      "two tokens joined, as Node joins headers": [`${token}, ${token}`, "bad_form"],
    });
    const slash = Array.from({ length: 200 }, () => signServiceToken(key, PROCEDURE, DIGEST, clock)).find((text) =>
      /[-_]/.test(text),
    )!;
    assert.equal(whyOf(slash), "accepted");
    assert.equal(whyOf(slash.replaceAll("-", "+").replaceAll("_", "/")), "bad_form", "the other alphabet");
  });

  test("S-HMAC-04 a token is good from 5 s before iat until 5 s after exp, and lives 30 s at most", () => {
    const at = (iat: number, exp: number) =>
      whyOf(forge({ claims: { iat: NOW_SECONDS + iat, exp: NOW_SECONDS + exp } }));
    const table: [iat: number, exp: number, why: string][] = [
      [0, 30, "accepted"],
      [5, 35, "accepted"],
      [6, 36, "not_yet_valid"],
      [31, 61, "not_yet_valid"],
      [-34, -4, "accepted"],
      [-35, -5, "accepted"],
      [-36, -6, "expired"],
      [-3600, -3570, "expired"],
      [0, 31, "too_long_lived"],
      [-30, 1, "too_long_lived"],
      [-86_400, 86_400, "too_long_lived"],
      [10, 5, "not_yet_valid"],
      [0, -6, "expired"],
    ];
    for (const [iat, exp, why] of table) assert.equal(at(iat, exp), why, `iat ${iat}, exp ${exp}`);
  });

  test("S-HMAC-04 time passing ends a token", () => {
    const moving = createTestClock(NOW_SECONDS * 1000);
    const verifyThen = createServiceTokenVerifier("auth", [key], moving);
    const token = signServiceToken(key, PROCEDURE, DIGEST, moving);
    moving.advance(35_000);
    assert.ok(verifyThen(token, PROCEDURE).ok);
    moving.advance(1);
    assert.deepEqual(verifyThen(token, PROCEDURE), { ok: false, why: "expired" });
  });

  test("S-HMAC-04 times are whole seconds: text, fractions, infinity, or none are refused", () => {
    for (const bad of ["1900000000", NOW_SECONDS + 0.5, -1, 1e300, null, [NOW_SECONDS], true, undefined]) {
      assert.equal(whyOf(forge({ claims: { iat: bad } })), "bad_claims", `iat ${bad}`);
      assert.equal(whyOf(forge({ claims: { exp: bad } })), "bad_claims", `exp ${bad}`);
    }
    const endless = JSON.stringify({ ...goodClaims, exp: 0 }).replace('"exp":0', '"exp":1e400');
    const header = JSON.stringify({ alg: "HS256", typ: "svc+jwt", kid: key.kid });
    assert.equal(whyOf(signParts(header, endless, key.secret)), "bad_claims", "exp 1e400");
  });

  test("S-HMAC-05 a digest is 43 characters of base64url or absent", () => {
    for (const bad of ["", DIGEST.slice(1), `${DIGEST}=`, `${DIGEST}A`, DIGEST.replace(/./, "+"), null, 1, [DIGEST]]) {
      assert.equal(whyOf(forge({ claims: { bd: bad } })), "bad_claims", JSON.stringify(bad));
    }
    const without = verify(forge({ claims: { bd: undefined } }), PROCEDURE);
    assert.ok(without.ok);
    assert.equal(without.claims.digest, undefined);
  });

  test("S-HMAC-06 a token is good for one procedure, spelled one way", () => {
    const token = forge();
    const { length } = PROCEDURE;
    const others = [
      "/concierge.auth.v1.AuthInternalService/CheckSession",
      `/${PROCEDURE}`,
      `${PROCEDURE}/`,
      `${PROCEDURE}?`,
      PROCEDURE.slice(1),
      PROCEDURE.slice(0, length - 1),
      PROCEDURE.toLowerCase(),
      PROCEDURE.replace("/G", "%2FG"),
      `/x/..${PROCEDURE}`,
    ];
    for (const procedure of others) assert.equal(whyOf(token, procedure), "bad_procedure", procedure);
    for (const proc of [undefined, null, [PROCEDURE], "*", ""]) {
      assert.equal(whyOf(forge({ claims: { proc } })), "bad_procedure", JSON.stringify(proc));
    }
  });

  test("S-HMAC-08 a token for one callee is nothing to another, even one that holds the key", () => {
    const atAccess = createServiceTokenVerifier("access", [key], clock);
    assert.deepEqual(atAccess(forge(), PROCEDURE), { ok: false, why: "unknown_kid" });
    for (const aud of ["access", undefined, ["auth"], ["auth", "access"], "AUTH", ""]) {
      assert.equal(whyOf(forge({ claims: { aud } })), "bad_aud", JSON.stringify(aud));
    }
  });

  test("S-HMAC-10 an unknown key, or another's name with one's own key, is refused", () => {
    assertRefused({
      "unknown kid": [forge({ header: { kid: "nobody" } }), "unknown_kid"],
      "kid that objects have": [forge({ header: { kid: "__proto__" } }), "unknown_kid"],
      "kid of a path": [forge({ header: { kid: "../../../../dev/null" } }), "unknown_kid"],
      "kid that is no text": [forge({ header: { kid: 1 } }), "bad_header"],
      "no kid": [forge({ header: { kid: undefined } }), "bad_header"],
      "another's name with one's own key": [forge({ claims: { iss: "greeter" } }), "bad_iss"],
      "another's kid with one's own secret": [
        forge({ header: { kid: otherKey.kid }, claims: { iss: "greeter" } }),
        "bad_signature",
      ],
      "names in a list": [forge({ claims: { iss: ["user"] } }), "bad_iss"],
      "no name": [forge({ claims: { iss: undefined } }), "bad_iss"],
      "a secret of nothing": [forge({ secret: "" }), "bad_signature"],
      "the secret as text, not decoded": [forge({ secret: encode(key.secret) }), "bad_signature"],
    });
  });

  test("the signature covers every bit: one flipped in any part is refused", () => {
    const token = forge();
    const parts = token.split(".");
    for (const [index, part] of parts.entries()) {
      const bytes = Buffer.from(part, "base64url");
      for (let at = 0; at < bytes.length; at++) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1;
        const forged = parts.with(index, changed.toString("base64url")).join(".");
        assert.notEqual(whyOf(forged), "accepted", `part ${index}, byte ${at}`);
      }
    }
    const [head, claims, signature] = parts as [string, string, string];
    for (const cut of [1, 16, 31]) {
      const short = Buffer.from(signature, "base64url").subarray(0, cut).toString("base64url");
      assert.equal(whyOf(`${head}.${claims}.${short}`), "bad_signature", `${cut} bytes of the signature`);
    }
    const long = Buffer.concat([Buffer.from(signature, "base64url"), randomBytes(1)]).toString("base64url");
    assert.equal(whyOf(`${head}.${claims}.${long}`), "bad_signature", "a byte more");
  });

  test("an id has 16 to 64 plain characters", () => {
    for (const bad of [
      undefined,
      "",
      "short",
      "a".repeat(65),
      `${"a".repeat(20)}\n`,
      `${"a".repeat(20)} `,
      1e20,
      ["a".repeat(20)],
    ]) {
      assert.equal(whyOf(forge({ claims: { jti: bad } })), "bad_claims", JSON.stringify(bad));
    }
    for (const good of ["a".repeat(16), "a".repeat(64), "A-1._b".repeat(4)]) {
      assert.equal(whyOf(forge({ claims: { jti: good } })), "accepted", good);
    }
  });

  test("S-HMAC-16 two live keys of a pair are both accepted; a key that was taken away is not", () => {
    const newer: ServiceKey = createServiceKey("user", "auth", "service");
    const during = createServiceTokenVerifier("auth", [newer, key], clock);
    const after = createServiceTokenVerifier("auth", [newer], clock);
    const [byOld, byNew] = [key, newer].map((signer) => signServiceToken(signer, PROCEDURE, DIGEST, clock));
    assert.ok(during(byOld!, PROCEDURE).ok);
    assert.ok(during(byNew!, PROCEDURE).ok);
    assert.ok(after(byNew!, PROCEDURE).ok);
    assert.deepEqual(after(byOld!, PROCEDURE), { ok: false, why: "unknown_kid" });
  });

  test("S-HMAC-15 signatures are compared by timingSafeEqual, never by an operator", async () => {
    const folder = fileURLToPath(new URL("..", import.meta.url));
    const names = await readdir(folder, { recursive: true });
    const macFiles: string[] = [];
    for (const name of names.filter((file) => file.endsWith(".ts") && !/\.test\.ts$|^testing/.test(file))) {
      const source = await readFile(join(folder, name), "utf8");
      if (!/createHmac|timingSafeEqual/.test(source)) continue;
      macFiles.push(name);
      for (const [comparison] of source.matchAll(/[\w.]+ ?[!=]==? ?[\w.]+/g)) {
        const onlyLengths = /^[\w.]+\.length [!=]== [\w.]+\.length$/.test(comparison);
        assert.ok(onlyLengths || !/signature|expected|\bmac\b|secret/i.test(comparison), `${name}: ${comparison}`);
      }
      assert.doesNotMatch(source, /\.equals\(|\.compare\(|localeCompare/, name);
    }
    assert.ok(macFiles.includes(join("token", "service-token.ts")));
    const source = await readFile(join(folder, "token", "service-token.ts"), "utf8");
    assert.match(source, /timingSafeEqual\(expected, parsed\.signature\)/);
  });
});
