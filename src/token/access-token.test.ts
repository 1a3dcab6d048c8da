import assert from "node:assert/strict";
import { createPrivateKey, scrypt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { importJWK, jwtVerify, SignJWT } from "jose";
import type { Clock } from "../clock.ts";
import { createTestClock } from "../testing/clock.ts";
import { compact, forgeTokens, signWith, tokenOfLength } from "../testing/forged-tokens.ts";
import { AUDIENCE, createAccessTokenVerifier, signAccessToken } from "./access-token.ts";
import { createServiceKey, createSigningKeys } from "./key-making.ts";
import { fixedKeyRing, type KeyRing, remoteKeyRing } from "./key-ring.ts";
import { signServiceToken } from "./service-token.ts";
import { createSigner, type KeySet, publicKeySet, type SigningAlgorithm } from "./signing-keys.ts";

const hash = promisify<string, string, number, Buffer>(scrypt);
const issuer = "https://auth.example";
const algorithms: SigningAlgorithm[] = ["ES256", "EdDSA", "RS256"];

/** The claims of a good token, as it goes over the wire. */
function goodClaims(clock: Clock): Record<string, unknown> {
  const nowSeconds = Math.floor(clock.now() / 1000);
  return {
    iss: issuer,
    aud: AUDIENCE,
    sub: crypto.randomUUID(),
    sid: crypto.randomUUID(),
    gen: 0,
    auth_time: nowSeconds,
    iat: nowSeconds,
    exp: nowSeconds + 300,
    jti: crypto.randomUUID(),
  };
}

/** An independent implementation signs. */
async function signByJose(set: KeySet, claims: Record<string, unknown>): Promise<string> {
  const key = set.keys[0]!;
  const header = { alg: key.alg, typ: "at+jwt", kid: key.kid };
  return new SignJWT(claims).setProtectedHeader(header).sign(await importJWK({ ...key }, key.alg));
}

/** A ring that counts how often a key was looked for, which happens once for each real verification. */
function countingRing(ring: KeyRing): KeyRing & { found: number } {
  return {
    found: 0,
    get generation() {
      return ring.generation;
    },
    find(kid) {
      this.found++;
      return ring.find(kid);
    },
    lookAgain: () => ring.lookAgain(),
    refresh: () => ring.refresh(),
  };
}

/** A real server of key sets, which counts how often it is asked. */
async function startKeyServer(published: KeySet) {
  const server = createServer((_, response) => {
    keys.requests++;
    response.end(JSON.stringify(keys.published));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const keys = {
    published,
    requests: 0,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return keys;
}

for (const alg of algorithms) {
  describe(`access tokens signed with ${alg}`, async () => {
    const clock = createTestClock();
    const set = await createSigningKeys(alg);
    const claims = goodClaims(clock);
    const nowSeconds = claims.iat as number;
    const verify = createAccessTokenVerifier(fixedKeyRing(set), { issuer, clock });

    test("one that jose signed is accepted", async () => {
      assert.deepEqual(verify(await signByJose(set, claims)), {
        ok: true,
        claims: {
          userId: claims.sub,
          sessionId: claims.sid,
          generation: 0,
          authenticatedAt: nowSeconds,
          expiresAt: nowSeconds + 300,
        },
      });
    });

    test("S-JWT-31 it is verified at once, while password hashes have all threads", async () => {
      const token = await signByJose(set, claims);
      let hashed = 0;
      const hashes = Array.from({ length: 4 }, async () => {
        await hash("a password", "some salt", 64);
        hashed++;
      });
      const verified = verify(token);
      assert.deepEqual([verified.ok, hashed], [true, 0]);
      await Promise.all(hashes);
    });

    test("one of our own is accepted by jose's check of the signature, and by us", async () => {
      const own = { userId: crypto.randomUUID(), sessionId: crypto.randomUUID(), generation: 3 };
      const expected = { ...own, authenticatedAt: nowSeconds - 60, expiresAt: nowSeconds + 300 };

      const token = signAccessToken(createSigner(set), { issuer, clock }, expected);

      const publicKey = await importJWK({ ...publicKeySet(set).keys[0]! }, alg);
      const options = {
        issuer,
        audience: AUDIENCE,
        typ: "at+jwt",
        algorithms: [alg],
        currentDate: new Date(clock.now()),
      };
      assert.equal((await jwtVerify(token, publicKey, options)).payload.sid, own.sessionId);
      assert.deepEqual(verify(token), { ok: true, claims: expected });
    });

    for (const { id, what, token, why } of forgeTokens({
      key: set.keys[0]!,
      claims,
      nowSeconds,
      trapUrl: "http://x",
    })) {
      test(`${id} ${what}`, () => {
        assert.deepEqual(verify(token), { ok: false, why });
      });
    }

    test("S-JWT-08 the tolerance is 5 s, on both sides, to the millisecond", async () => {
      const exact = createTestClock(nowSeconds * 1000);
      const verifyExactly = createAccessTokenVerifier(fixedKeyRing(set), { issuer, clock: exact });
      const whyOf = async (changes: object) => {
        // Of its own name, so that it is not known from before.
        const verified = verifyExactly(await signByJose(set, { ...claims, jti: crypto.randomUUID(), ...changes }));
        return verified.ok ? "accepted" : verified.why;
      };
      const [exp, iat, nbf] = [nowSeconds - 5, nowSeconds + 5, nowSeconds + 5];
      assert.equal(await whyOf({ exp }), "accepted");
      assert.equal(await whyOf({ iat }), "accepted");
      assert.equal(await whyOf({ nbf }), "accepted");
      exact.advance(1);
      assert.equal(await whyOf({ exp }), "expired");
      exact.advance(-2);
      assert.equal(await whyOf({ iat }), "not_yet_valid");
      assert.equal(await whyOf({ nbf }), "not_yet_valid");
    });

    test("S-JWT-18 4,096 bytes are the limit", () => {
      const key = set.keys[0]!;
      const sign = signWith(alg, createPrivateKey({ key, format: "jwk" }));
      const token = tokenOfLength(4096, { alg, typ: "at+jwt", kid: key.kid }, claims, (header, body = claims) =>
        compact(header, body, sign),
      );
      assert.equal(verify(token).ok, true);
    });

    test("S-JWT-19 white space around a good token, and none", async () => {
      const token = await signByJose(set, claims);
      assert.equal(verify(token).ok, true);
      for (const other of [`${token}\n`, `\n${token}`, `${token} `, ` ${token}`, `${token}\r\n`, `${token}\0`, ""]) {
        assert.deepEqual(verify(other), { ok: false, why: "bad_form" }, JSON.stringify(other.slice(-3)));
      }
    });

    test("S-JWT-28 no token with one bit flipped is accepted", async () => {
      const token = await signByJose(set, claims);
      assert.equal(verify(token).ok, true);
      const bytes = Buffer.from(token, "latin1");
      for (let at = 0; at < bytes.length; at++) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1 << (at % 7);
        assert.equal(verify(changed.toString("latin1")).ok, false, `byte ${at}`);
      }
    });
  });
}

describe("access tokens and other keys", () => {
  const clock = createTestClock();

  test("S-JWT-03 a key of the ring is good for its own algorithm only", async () => {
    const sets = await Promise.all(algorithms.map((alg) => createSigningKeys(alg)));
    const keys = sets.map((set) => set.keys[0]!);
    const verify = createAccessTokenVerifier(fixedKeyRing({ keys }), { issuer, clock });
    for (const signer of keys) {
      const sign = signWith(signer.alg, createPrivateKey({ key: signer, format: "jwk" }));
      for (const named of keys) {
        const token = (alg: string) => compact({ alg, typ: "at+jwt", kid: named.kid }, goodClaims(clock), sign);
        assert.equal(verify(token(named.alg)).ok, named === signer, `${signer.alg} under ${named.alg}`);
        for (const { alg } of keys.filter((other) => other !== named)) {
          assert.deepEqual(verify(token(alg)), { ok: false, why: "bad_alg" }, `${alg} with a key for ${named.alg}`);
        }
      }
    }
  });

  test("S-JWT-05 10,000 unknown key ids are worth one look at the key set in 30 s", async () => {
    const clock = createTestClock();
    await using server = await startKeyServer(publicKeySet(await createSigningKeys("ES256")));
    const ring = remoteKeyRing(server.url, clock);
    const verify = createAccessTokenVerifier(ring, { issuer, clock });
    const claims = goodClaims(clock);
    await ring.refresh();

    for (const expected of [2, 3]) {
      for (let count = 0; count < 10_000; count++) {
        const header = { alg: "ES256", typ: "at+jwt", kid: `unknown-${count}` };
        assert.deepEqual(verify(compact(header, claims, () => Buffer.alloc(64))), { ok: false, why: "unknown_kid" });
        await ring.lookAgain();
        if (count === 5_000) clock.advance(29_999);
      }
      assert.equal(server.requests, expected);
      clock.advance(1);
    }
  });

  test("S-JWT-16 a service token is no access token", async () => {
    const set = await createSigningKeys("ES256");
    const verify = createAccessTokenVerifier(fixedKeyRing(set), { issuer, clock });
    const token = signServiceToken(createServiceKey("user", "auth", "service"), "/a.B/C", undefined, clock);
    assert.deepEqual(verify(token), { ok: false, why: "bad_typ" });
  });
});

describe("remembered access tokens", () => {
  test("a second use verifies nothing, until the token expires", async () => {
    const clock = createTestClock();
    const set = await createSigningKeys("ES256");
    const ring = countingRing(fixedKeyRing(set));
    const verify = createAccessTokenVerifier(ring, { issuer, clock });
    const token = await signByJose(set, goodClaims(clock));

    assert.equal(verify(token).ok, true);
    assert.equal(verify(token).ok, true);
    assert.equal(ring.found, 1);
    clock.advance(304_000);
    assert.equal(verify(token).ok, true);
    clock.advance(2_000);
    assert.deepEqual(verify(token), { ok: false, why: "expired" });
    assert.equal(ring.found, 1);
  });

  test("a refusal is not remembered", async () => {
    const clock = createTestClock();
    const set = await createSigningKeys("ES256");
    const verify = createAccessTokenVerifier(fixedKeyRing(set), { issuer, clock });
    const claims = goodClaims(clock);
    const token = await signByJose(set, { ...claims, nbf: (claims.iat as number) + 60 });

    assert.deepEqual(verify(token), { ok: false, why: "not_yet_valid" });
    clock.advance(60_000);
    assert.equal(verify(token).ok, true);
  });

  test("S-JWT-19 another spelling of a remembered token is not accepted", async () => {
    const clock = createTestClock();
    const set = await createSigningKeys("ES256");
    const verify = createAccessTokenVerifier(fixedKeyRing(set), { issuer, clock });
    const token = await signByJose(set, goodClaims(clock));
    assert.equal(verify(token).ok, true);

    const last = token.at(-1)!.charCodeAt(0);
    const respelled = `${token.slice(0, -1)}${String.fromCharCode(last + 1)}`;
    for (const other of [`${token}=`, `${token}\n`, respelled, token.toUpperCase(), `${token}.`]) {
      assert.equal(verify(other).ok, false);
    }
    // The header of every token is the same: a memory that went by the first characters would answer for all of them.
    const [head, payload] = token.split(".");
    assert.deepEqual(verify(`${head}.${payload}.${"A".repeat(86)}`), { ok: false, why: "bad_signature" });
  });

  test("S-JWT-30 a token whose key was removed is refused, remembered or not", async () => {
    const clock = createTestClock();
    const [first, second] = [await createSigningKeys("ES256"), await createSigningKeys("ES256")];
    await using server = await startKeyServer(publicKeySet(first));
    const ring = remoteKeyRing(server.url, clock);
    const verify = createAccessTokenVerifier(ring, { issuer, clock });
    const [old, young] = await Promise.all([first, second].map((set) => signByJose(set, goodClaims(clock))));
    assert.deepEqual(verify(old!), { ok: false, why: "unknown_kid" });
    await ring.refresh();
    assert.equal(verify(old!).ok, true);

    server.published = publicKeySet({ keys: [...second.keys, ...first.keys] });
    await ring.refresh();
    assert.equal(verify(old!).ok, true);
    assert.equal(verify(young!).ok, true);
    server.published = publicKeySet(second);
    await ring.refresh();

    assert.deepEqual(verify(old!), { ok: false, why: "unknown_kid" });
    assert.equal(verify(young!).ok, true);
  });

  test("1,000 people in rotation are never taken for each other", async () => {
    const clock = createTestClock();
    const set = await createSigningKeys("EdDSA");
    const ring = countingRing(fixedKeyRing(set));
    const verify = createAccessTokenVerifier(ring, { issuer, clock });
    const signer = createSigner(set);
    const expiresAt = Math.floor(clock.now() / 1000) + 300;
    const people = Array.from({ length: 1_000 }, (_, generation) => {
      const [userId, sessionId] = [crypto.randomUUID(), crypto.randomUUID()];
      const claims = { userId, sessionId, generation, authenticatedAt: expiresAt - 300, expiresAt };
      return { claims, token: signAccessToken(signer, { issuer, clock }, claims) };
    });

    for (let round = 0; round < 3; round++) {
      for (const { claims, token } of people) assert.deepEqual(verify(token), { ok: true, claims });
    }
    assert.equal(ring.found, people.length);
  });
});
