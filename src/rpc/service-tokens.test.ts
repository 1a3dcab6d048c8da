import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationInternalService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { notification } from "../services/notification/service.ts";
import { user } from "../services/user/service.ts";
import { exchangeBytes } from "../testing/http.ts";
import {
  assertAnswered,
  assertUnauthenticated,
  callSigned,
  loggedRefusal,
  procedureOf,
  tokenFor,
} from "../testing/signed-calls.ts";
import { assertNoStateChange, readState, untilHeard } from "../testing/state.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { allWires, callWire, encodeMessage, type Wire, wireName } from "../testing/wire.ts";
import { createServiceKey } from "../token/key-making.ts";
import { messageDigest, SERVICE_TOKEN_HEADER } from "../token/service-token.ts";

const { getAccount } = AuthInternalService.method;
const { createRole, assignRole, batchGetUserRoles } = AccessInternalService.method;
const { createNotification, listUnprocessed, markProcessed } = NotificationInternalService.method;

const DATABASES = ["auth", "access", "user", "notification"];
const connectJson: Wire = { protocol: "connect", encoding: "json", http: "1.1" };

describe("service tokens over the wire", () => {
  let system: TestSystem;
  let userId: string;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, user, notification] });
    ({ userId } = await system.newUser());
    await untilHeard(system, DATABASES);
  });

  after(() => system[Symbol.asyncDispose]());

  const unchanged = <Result>(act: () => Promise<Result>) => assertNoStateChange(system, act, DATABASES);
  const roleName = () => `role-${crypto.randomUUID().slice(0, 8)}`;

  test("a right token is accepted over every wire", async () => {
    for (const wire of allWires) {
      assertAnswered(await callSigned(system, wire, { method: getAccount, message: { userId } }), wireName(wire));
    }
  });

  test("S-HMAC-01 S-HMAC-04 S-HMAC-10 no token or a wrong one: one answer over every wire, nothing stored", async () => {
    const stranger = createServiceKey("stranger", "access", "service");
    const now = Math.floor(system.clock.now() / 1000);
    const wrong: [name: string, forgery: Parameters<typeof tokenFor>[2]["forgery"], why: string][] = [
      ["another typ", { header: { typ: "at+jwt" } }, "bad_typ"],
      ["another alg", { header: { alg: "HS512" }, hash: "sha512" }, "bad_alg"],
      ["alg none", { header: { alg: "none" } }, "bad_alg"],
      ["iat 31 s ahead", { claims: { iat: now + 31, exp: now + 61 } }, "not_yet_valid"],
      ["exp passed", { claims: { iat: now - 36, exp: now - 6 } }, "expired"],
      ["a life of 31 s", { claims: { exp: now + 31 } }, "too_long_lived"],
      ["an unknown caller", { key: stranger }, "unknown_kid"],
      ["another's name with one's own key", { claims: { iss: "operator" } }, "bad_iss"],
      ["another's kid", { header: { kid: system.keyOf("operator", "access").kid } }, "bad_signature"],
      ["no digest", { digest: undefined }, "digest_missing"],
    ];
    await unchanged(async () => {
      for (const wire of allWires) {
        const message = { name: roleName() };
        const reference = await callWire(wire, system.internalUrl, { method: createRole, message });
        assertUnauthenticated(reference, wire, `no token, ${wireName(wire)}`);
        for (const token of ["", "garbage", "a.b.c"]) {
          const answer = await callSigned(system, wire, { method: createRole, message, token });
          assert.deepEqual(visible(answer), visible(reference), `"${token}", ${wireName(wire)}`);
        }
        for (const [name, forgery, why] of wrong) {
          const token = tokenFor(system, wire, { method: createRole, message, forgery: forgery! });
          const answer = await callSigned(system, wire, { method: createRole, message, token });
          assert.deepEqual(visible(answer), visible(reference), `${name}, ${wireName(wire)}`);
          assert.equal(await loggedRefusal(system, answer), why, name);
        }
      }
    });
  });

  test("S-HMAC-02 a replay of a method with effects is REPLAY, of one without it is answered", async () => {
    const role = roleName();
    assertAnswered(await callSigned(system, connectJson, { method: createRole, message: { name: role } }), "a role");
    const spentOnes: { wire: Wire; call: Parameters<typeof callSigned>[2] }[] = [];
    for (const wire of allWires) {
      const created = { method: createNotification, message: { text: wireName(wire), userIds: [userId] } };
      // Giving a role twice is no error, but a captured call must not give back a role that was taken.
      const assigned = { method: assignRole, message: { userId, role } };
      for (const once of [created, assigned] as Parameters<typeof callSigned>[2][]) {
        const token = tokenFor(system, wire, once);
        assertAnswered(await callSigned(system, wire, { ...once, token }), wireName(wire));
        spentOnes.push({ wire, call: { ...once, token } });
      }

      const safe = { method: getAccount, message: { userId } };
      const safeToken = tokenFor(system, wire, safe);
      const idempotent = { method: markProcessed, message: {} };
      const idempotentToken = tokenFor(system, wire, idempotent);
      for (const attempt of ["first", "second"]) {
        const what = `${attempt}, ${wireName(wire)}`;
        assertAnswered(await callSigned(system, wire, { ...safe, token: safeToken }), what);
        assertAnswered(await callSigned(system, wire, { ...idempotent, token: idempotentToken }), what);
      }
    }
    await unchanged(async () => {
      for (const { wire, call } of spentOnes) {
        const replay = await callSigned(system, wire, call);
        assertUnauthenticated(replay, wire, wireName(wire), "REPLAY");
        assert.equal(await loggedRefusal(system, replay), "replay");
      }
    });
  });

  test("no part of a token is in the log", async () => {
    const good = tokenFor(system, connectJson, { method: getAccount, message: { userId } });
    const bad = `${good.slice(0, -2)}AA`;
    for (const token of [good, bad]) {
      await callSigned(system, connectJson, { method: getAccount, message: { userId }, token });
      const log = JSON.stringify(system.logLines);
      for (const part of token.split(".").slice(1)) assert.ok(!log.includes(part.slice(0, 20)));
    }
    assert.ok(!JSON.stringify(system.logLines).includes(system.keyOf("backend", "auth").secret));
  });

  test("S-HMAC-02 a token that comes ten times at once is spent once", async () => {
    const wire = connectJson;
    const call = { method: createNotification, message: { text: "once", userIds: [userId] } };
    const token = tokenFor(system, wire, call);
    const answers = await Promise.all(Array.from({ length: 10 }, () => callSigned(system, wire, { ...call, token })));
    assert.equal(answers.filter(({ code }) => code === undefined).length, 1);
    assert.equal(answers.filter(({ reason }) => reason === "REPLAY").length, 9);
  });

  test("S-HMAC-02 an id belongs to its caller: another caller's token with the same id is not a replay", async () => {
    const claims = { jti: "0000000000000001" };
    const call = { method: createNotification, message: { text: "mine", userIds: [userId] }, forgery: { claims } };
    for (const caller of ["backend", "operator"]) {
      assertAnswered(await callSigned(system, connectJson, { ...call, caller }), caller);
      assertUnauthenticated(await callSigned(system, connectJson, { ...call, caller }), connectJson, caller, "REPLAY");
    }
  });

  test("S-HMAC-03 a token is spent at every replica and across a restart", async () => {
    const wire = connectJson;
    const call = { method: createNotification, message: { text: "everywhere", userIds: [userId] } };
    const safe = { method: getAccount, message: { userId } };
    const [token, safeToken] = [tokenFor(system, wire, call), tokenFor(system, wire, safe)];
    assertAnswered(await callSigned(system, wire, { ...call, token }), "first");
    for (const life of ["a second replica", "the same after its restart"]) {
      await using replica = await system.startReplica();
      await replica.ready;
      const baseUrl = replica.internalUrl;
      const replay = await unchanged(() => callSigned(system, wire, { ...call, token, baseUrl }));
      assertUnauthenticated(replay, wire, life, "REPLAY");
      assertAnswered(await callSigned(system, wire, { ...safe, token: safeToken, baseUrl }), life);
    }
  });

  test("S-HMAC-06 a token is for one path: no other method, no other spelling, no query", async () => {
    const path = procedureOf(markProcessed);
    const spellings = [
      `/${path}`,
      path.replace("/MarkProcessed", "//MarkProcessed"),
      path.replace("/MarkProcessed", "%2FMarkProcessed"),
      path.replace("MarkProcessed", "%4DarkProcessed"),
      `/x/..${path}`,
      `${path}/../MarkProcessed`,
      `${path}/`,
      path.toLowerCase(),
      `${path}?`,
      `${path}?connect=v1`,
      `${path}?${path}`,
      procedureOf(markProcessed).slice(1),
    ].filter((spelling) => spelling.startsWith("/"));
    await unchanged(async () => {
      for (const wire of allWires) {
        const message = {};
        const listToken = tokenFor(system, wire, { method: listUnprocessed, message });
        const token = tokenFor(system, wire, { method: markProcessed, message });
        const swapped = await callSigned(system, wire, { method: markProcessed, message, token: listToken });
        assertUnauthenticated(swapped, wire, `swapped, ${wireName(wire)}`);
        for (const spelling of spellings) {
          const answer = await callSigned(system, wire, { method: markProcessed, message, token, path: spelling });
          assertUnauthenticated(answer, wire, `${spelling}, ${wireName(wire)}`);
        }
      }
    });
  });

  test("S-HMAC-08 a token for one callee is refused by another", async () => {
    for (const wire of allWires) {
      const call = { method: batchGetUserRoles, message: { userIds: [userId] } };
      for (const forgery of [{ key: system.keyOf("user", "auth") }, { claims: { aud: "auth" } }]) {
        const answer = await callSigned(system, wire, { ...call, caller: "user", forgery });
        assertUnauthenticated(answer, wire, wireName(wire));
      }
      assertAnswered(await callSigned(system, wire, { ...call, caller: "user" }), wireName(wire));
    }
  });

  test("S-HMAC-09 the header's name in any case is the same; the header twice is refused", async () => {
    for (const wire of allWires) {
      const call = { method: getAccount, message: { userId } };
      for (const name of ["Service-Token", "SERVICE-TOKEN", "sErViCe-tOkEn"]) {
        const headers = [[name, tokenFor(system, wire, call)]] as const;
        const answer = await callWire(wire, system.internalUrl, { ...call, headers });
        assertAnswered(answer, `${name}, ${wireName(wire)}`);
      }
      const token = tokenFor(system, wire, call);
      const other = tokenFor(system, wire, call);
      const pairs = [
        [token, token],
        [token, other],
        [token, ""],
        ["x", token],
      ] as const;
      for (const [first, second] of pairs) {
        const twice = { ...call, token: first, headers: [["Service-Token", second]] as const };
        assertUnauthenticated(await callSigned(system, wire, twice), wire, `twice, ${wireName(wire)}`);
      }
      for (const joined of [`${token},${token}`, `${token}, ${token}`, `${token} x`, `Bearer ${token}`]) {
        assertUnauthenticated(await callSigned(system, wire, { ...call, token: joined }), wire, joined);
      }
    }
  });

  test("S-HMAC-09 a token folded over two lines is refused", async () => {
    const message = encodeMessage(connectJson, getAccount.input, { userId });
    const token = tokenFor(system, connectJson, { method: getAccount, message });
    for (const fold of ["\r\n ", "\r\n\t", "\n ", " "]) {
      const folded = `${token.slice(0, 100)}${fold}${token.slice(100)}`;
      const head = [
        `POST ${procedureOf(getAccount)} HTTP/1.1`,
        `host: ${new URL(system.internalUrl).host}`,
        "connection: close",
        "content-type: application/json",
        `content-length: ${message.length}`,
        `${SERVICE_TOKEN_HEADER}: ${folded}`,
      ];
      const bytes = await exchangeBytes(
        system.internalUrl,
        Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), message]),
      );
      // Node's parser refuses some ways of folding by itself, as RFC 9112 wants it.
      assert.match(bytes.toString("latin1"), /^HTTP\/1\.1 (400|401) /, JSON.stringify(fold));
    }
  });

  test("an operator may leave the digest out here; nobody else may, and a wrong one is refused anyway", async () => {
    for (const wire of allWires) {
      const call = { method: getAccount, message: { userId } };
      const bare = { ...call, forgery: { digest: undefined } };
      assertAnswered(await callSigned(system, wire, { ...bare, caller: "operator" }), wireName(wire));
      for (const caller of ["user", "backend"]) {
        assertUnauthenticated(await callSigned(system, wire, { ...bare, caller }), wire, `${caller} ${wireName(wire)}`);
      }
      const wrong = { ...call, forgery: { digest: messageDigest(Buffer.from("x")) }, caller: "operator" };
      assertUnauthenticated(await callSigned(system, wire, wrong), wire, `wrong, ${wireName(wire)}`);
    }
  });

  test("an operator's token without a digest is spent like any other", async () => {
    const call = { method: createRole, message: { name: roleName() }, caller: "operator" };
    const token = tokenFor(system, connectJson, { ...call, forgery: { digest: undefined } });
    assertAnswered(await callSigned(system, connectJson, { ...call, token }), "first");
    const other = { ...call, token, message: { name: roleName() } };
    const replay = await unchanged(() => callSigned(system, connectJson, other));
    assertUnauthenticated(replay, connectJson, "second", "REPLAY");
  });

  test("spent tokens are forgotten once they expired, not earlier", async () => {
    const spent = async () => {
      const { "notification public.spent_token": digest } = await readState(system, ["notification"]);
      return Number(digest!.split(" ")[0]);
    };
    const call = { method: createNotification, message: { text: "swept", userIds: [userId] } };
    assertAnswered(await callSigned(system, connectJson, call), "first");
    // Expired but for the tolerance; the databases' clocks also ran on while the tests did.
    await system.advance(31_000);
    await swept();
    assert.ok((await spent()) > 0, "forgotten too early");
    await system.advance(90_000);
    assertAnswered(await callSigned(system, connectJson, call), "a new one");
    await swept();
    assert.equal(await spent(), 1);
  });

  /** Every job runs first when its server gets ready, and a stopping server waits for the run. */
  async function swept(): Promise<void> {
    await using replica = await system.startReplica();
    await replica.ready;
  }
});

/** All that a caller can see of an answer, but for what differs anyway. */
function visible(answer: Awaited<ReturnType<typeof callWire>>) {
  const { status, headers, trailers, body } = answer;
  return { status, headers: headers.filter(([name]) => !["date", "x-request-id"].includes(name)), trailers, body };
}
