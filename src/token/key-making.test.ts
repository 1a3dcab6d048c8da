import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { getOption } from "@bufbuild/protobuf";
import { importJWK, jwtVerify, SignJWT } from "jose";
import { access as accessOption } from "../../gen/concierge/options/v1/access_pb.ts";
import { readers as readersOption } from "../../gen/concierge/options/v1/readers_pb.ts";
import { services } from "../services.ts";
import { calleesOf, createServiceKey, createSigningKeys, madeAt, pairsOf } from "./key-making.ts";
import { isSigningKey, publicKeySet, type SigningAlgorithm } from "./signing-keys.ts";

describe("making keys", () => {
  test("there is a pair for every service that a method or an event lists, and for nobody else", () => {
    const listed = new Set<string>();
    for (const definition of services) {
      for (const method of definition.services.flatMap((desc) => desc.methods)) {
        const { who } = getOption(method, accessOption);
        if (who.case !== "callers") continue;
        for (const caller of who.value.services) listed.add(`${caller} -> ${definition.name}`);
      }
      for (const event of definition.events?.messages ?? []) {
        for (const reader of getOption(event, readersOption).services) listed.add(`${reader} -> ${definition.name}`);
      }
    }
    const pairs = pairsOf(services).map(({ caller, callee }) => `${caller} -> ${callee}`);
    assert.deepEqual(pairs.toSorted(), [...listed].toSorted());
    assert.ok(pairs.includes("notification-sender -> notification"));
    assert.ok(!pairs.includes("greeter -> notification"));
  });

  test("every peer that a service names can be called: there is a pair for it", () => {
    const pairs = new Set(pairsOf(services).map(({ caller, callee }) => `${caller} ${callee}`));
    for (const { name, peers } of services) {
      for (const peer of Object.keys(peers)) assert.ok(pairs.has(`${name} ${peer}`), `${name} calls ${peer}`);
    }
  });

  test("callees are the services with an internal API", () => {
    const names = calleesOf(services).map(({ name }) => name);
    for (const { callee } of pairsOf(services)) assert.ok(names.includes(callee), callee);
    const withInternalApi = services.filter((one) => one.services.some(({ name }) => name.endsWith("InternalService")));
    assert.deepEqual(
      names,
      withInternalApi.map(({ name }) => name),
    );
    assert.ok(!names.includes("greeter"));
  });

  test("a service key has 32 random bytes and an id that nobody else has", () => {
    const keys = Array.from({ length: 100 }, () => createServiceKey("user", "auth", "service"));
    for (const { secret, ...key } of keys) {
      assert.equal(Buffer.from(secret, "base64url").length, 32);
      assert.match(key.kid, /^user-auth-[0-9a-f-]{36}$/);
      assert.ok(!key.kid.includes(secret));
      assert.deepEqual({ ...key, kid: "" }, { kid: "", caller: "user", callee: "auth", kind: "service" });
    }
    assert.equal(new Set(keys.map(({ kid }) => kid)).size, 100);
    assert.equal(new Set(keys.map(({ secret }) => secret)).size, 100);
  });

  for (const alg of ["ES256", "EdDSA", "RS256"] satisfies SigningAlgorithm[]) {
    test(`a signing key for ${alg} is new each time, tells when it was made, and works in jose`, async () => {
      const [set, other] = [await createSigningKeys(alg), await createSigningKeys(alg)];
      const [jwk] = set.keys;
      assert.ok(jwk && set.keys.length === 1);
      assert.ok(isSigningKey(jwk));
      assert.equal(jwk.alg, alg);
      assert.ok(madeAt(jwk.kid) < madeAt(other.keys[0]!.kid));

      const token = await new SignJWT({}).setProtectedHeader({ alg }).sign(await importJWK({ ...jwk }, alg));
      const [published] = publicKeySet(set).keys;
      assert.ok(published && !("d" in published));
      await jwtVerify(token, await importJWK({ ...published }, alg));
    });
  }
});
