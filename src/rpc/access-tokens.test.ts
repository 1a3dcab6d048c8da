import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { Code } from "../errors.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { greeter } from "../services/greeter/service.ts";
import { user as userService } from "../services/user/service.ts";
import { BearerCalls, bearer, checkSession, DATABASES, hello, me, shapes } from "../testing/bearer-calls.ts";
import { compact, type Forgery, forgeTokens, signWith } from "../testing/forged-tokens.ts";
import { exchangeBytes, type HeaderLine } from "../testing/http.ts";
import { assertNoStateChange, untilHeard } from "../testing/state.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";
import { signServiceToken } from "../token/service-token.ts";

/** The forgeries of one case are many; together they go over every wire, and all of them are in access-token.test.ts. */
const SHAPES_OF_A_FORGERY = 4;

/** What is forged under each id. */
const FORGED: Record<string, string> = {
  "S-JWT-01": "unsigned tokens, whatever the spelling of alg",
  "S-JWT-02": "the public key as an HMAC secret",
  "S-JWT-03": "another algorithm, another key, a spoilt signature",
  "S-JWT-04": "key ids that are paths, SQL, names of prototypes",
  "S-JWT-06": "jku and x5u",
  "S-JWT-07": "a key inside the header",
  "S-JWT-08": "expired a second past the tolerance",
  "S-JWT-09": "no exp, or one that is no time",
  "S-JWT-11": "not valid yet, or without the time it was made",
  "S-JWT-12": "another issuer, or another spelling of ours",
  "S-JWT-13": "another audience, or ours among others",
  "S-JWT-14": "no subject, or an odd one",
  "S-JWT-15": "tokens of other types",
  "S-JWT-18": "tokens of 4,097 bytes and of 15 KB",
  "S-JWT-19": "other spellings of a good token",
  "S-JWT-20": "encrypted and compressed tokens are not opened",
  "S-JWT-21": "crit, b64 and every other member we do not know",
};

describe("access tokens over every wire", () => {
  let system: TestSystem;
  let person: TestUser;
  let calls: BearerCalls;
  let forgeries: Forgery[];
  let trap: net.Server;
  let trapConnections = 0;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, userService, greeter] });
    calls = new BearerCalls(system);
    person = await system.newUser();
    trap = net.createServer((socket) => {
      trapConnections++;
      socket.destroy();
    });
    await once(trap.listen(0, "127.0.0.1"), "listening");
    forgeries = forgeTokens({
      key: system.signingKeys.keys[0]!,
      claims: decodeJwt(person.accessToken),
      nowSeconds: Math.floor(system.clock.now() / 1000),
      trapUrl: `http://127.0.0.1:${(trap.address() as net.AddressInfo).port}`,
    });
  });

  after(async () => {
    trap.close();
    await system[Symbol.asyncDispose]();
    assertNoTokenInLog();
  });

  async function assertForgeriesRefused(id: string) {
    const chosen = forgeries.filter((forgery) => forgery.id === id);
    const cases = chosen.map(({ what, token, why }) => ({ what, headers: bearer(token), why }));
    await calls.assertRefusedEverywhere(cases, SHAPES_OF_A_FORGERY);
  }

  /** A token that only the changes tell from the one that auth gave. */
  function signed(changes: Record<string, unknown>): string {
    const key = system.signingKeys.keys[0]!;
    const claims = { ...decodeJwt(person.accessToken), ...changes };
    const privateKey = createPrivateKey({ key, format: "jwk" });
    return compact({ alg: key.alg, typ: "at+jwt", kid: key.kid }, claims, signWith(key.alg, privateKey));
  }

  test("no credential at all is refused, and says nothing but that", async () => {
    await calls.assertRefusedEverywhere([{ what: "no header", headers: [], why: "missing" }]);
  });

  test("the person's own token is accepted", () => calls.assertAccepted(bearer(person.accessToken)));

  test("two people in turn, by tokens with the same beginning, each see themselves", async () => {
    const people = [person, await system.newUser()];
    for (let round = 0; round < 2; round++) {
      for (const { accessToken, userId, email } of people) {
        const { user } = await system.asUser(UserService, accessToken).getMe({});
        assert.deepEqual([user?.userId, user?.email], [userId, email]);
      }
    }
  });

  for (const [id, what] of Object.entries(FORGED)) {
    test(`${id} ${what}: refused`, () => assertForgeriesRefused(id));
  }

  test("every forgery belongs to a test", () => {
    assert.deepEqual([...new Set(forgeries.map(({ id }) => id))].sort(), Object.keys(FORGED).sort());
  });

  test("S-JWT-06 nobody follows jku and x5u", async () => {
    await assertForgeriesRefused("S-JWT-06");
    assert.equal(trapConnections, 0);
  });

  test("S-JWT-08 expired less than the tolerance ago: accepted", async () => {
    await calls.assertAccepted(bearer(signed({ exp: Math.floor(system.clock.now() / 1000) - 4 })), [hello]);
  });

  test("S-JWT-15 the refresh token as bearer: refused", async () => {
    const headers = bearer(person.refreshToken);
    await calls.assertRefusedEverywhere([{ what: "the refresh token", headers, why: "bad_form" }]);
  });

  test("S-JWT-15 an access token in place of a refresh token ends no session", async () => {
    const refreshToken = person.accessToken;
    const act = async () => {
      for (const wire of allWires) {
        const { code } = await callWire(wire, system.publicUrl, {
          method: AuthService.method.logout,
          message: { refreshToken },
        });
        // The contract bounds a refresh token; one that is unknown is no error (RFC 7009).
        assert.equal(code, refreshToken.length > 512 ? Code.InvalidArgument : undefined, wireName(wire));
      }
    };
    await untilHeard(system, DATABASES);
    await assertNoStateChange(system, act, DATABASES);
    await calls.assertAccepted(bearer(person.accessToken), [hello]);
  });

  test("S-JWT-16 a service token does not make a person", async () => {
    const procedure = `/${GreeterService.typeName}/SayHello`;
    const token = signServiceToken(system.keyOf("greeter", "auth"), procedure, undefined, system.clock);
    await calls.assertRefusedEverywhere([
      { what: "as bearer", headers: bearer(token), why: "bad_typ" },
      { what: "in its own header", headers: [["service-token", token]], why: "missing" },
    ]);
  });

  test("S-JWT-16 an access token does not make a service", async () => {
    const token = person.accessToken;
    for (const shape of shapes) {
      const headers: HeaderLine[] = [["service-token", token]];
      await calls.assertRefused(checkSession, shape, { what: "in a service's header", headers, why: "bad_typ" });
      await calls.assertRefused(checkSession, shape, { what: "as bearer", headers: bearer(token), why: "missing" });
    }
  });

  test("S-JWT-18 a header of 20 KB: 431, and over HTTP/2 the end of that stream only", async () => {
    const line: HeaderLine = ["authorization", `Bearer ${"x".repeat(20 * 1024)}`];
    const act = async () => {
      for (const shape of shapes.filter(({ wire }) => wire.http === "1.1")) {
        assert.equal((await calls.send(hello, shape, [line])).status, 431, wireName(shape.wire));
      }
      for (const shape of shapes.filter(({ wire }) => wire.http === "2")) {
        await assert.rejects(calls.send(hello, shape, [line]), /ENHANCE_YOUR_CALM/, wireName(shape.wire));
      }
    };
    await untilHeard(system, DATABASES);
    await assertNoStateChange(system, act, DATABASES);
    await assertSessionSurvives(line);
  });

  /** HTTP/2 has a status 431 too, but Node resets the stream before there is a request to answer. */
  async function assertSessionSurvives([name, value]: HeaderLine) {
    const session = http2.connect(system.publicUrl);
    const start = {
      ":method": "POST",
      ":path": `/${GreeterService.typeName}/SayHello`,
      "content-type": "application/json",
    };
    const statusOfNext = async () => {
      const [headers] = await once(session.request(start).end("{}").resume(), "response");
      return headers[":status"];
    };
    try {
      // Before it, so that both sides have agreed on the limit; after it, as the others on the connection go on.
      assert.equal(await statusOfNext(), 401);
      await assert.rejects(once(session.request({ ...start, [name]: value }), "response"), /ENHANCE_YOUR_CALM/);
      assert.equal(await statusOfNext(), 401);
    } finally {
      session.destroy();
    }
  }

  test("S-JWT-19 a line end behind a good token", async () => {
    const headers: HeaderLine[] = [["authorization", `Bearer ${person.accessToken}\n`]];
    for (const shape of shapes) {
      const { status, code } = await calls.send(hello, shape, headers);
      // HTTP/1.1: a malformed line. HTTP/2: a malformed field, which nghttp2 leaves out, so that no credential is left.
      if (shape.wire.http === "1.1") assert.equal(status, 400, wireName(shape.wire));
      else assert.equal(code, Code.Unauthenticated, wireName(shape.wire));
    }
    const folded = [
      `POST /${GreeterService.typeName}/SayHello HTTP/1.1`,
      ...["host: x", "content-type: application/json", "connection: close", "content-length: 2"],
      ...["authorization: Bearer", ` ${person.accessToken}`, "", "{}"],
    ].join("\r\n");
    assert.match((await exchangeBytes(system.publicUrl, Buffer.from(folded))).toString(), /^HTTP\/1.1 400 /);
  });

  test("S-JWT-23 one authorization header, no more", async () => {
    const good = `Bearer ${person.accessToken}`;
    const pairs: [string, HeaderLine[]][] = [
      [
        "the same twice",
        [
          ["authorization", good],
          ["authorization", good],
        ],
      ],
      [
        "a good one first",
        [
          ["authorization", good],
          ["authorization", "Bearer x"],
        ],
      ],
      [
        "a good one last",
        [
          ["authorization", "Bearer x"],
          ["authorization", good],
        ],
      ],
      [
        "in another case",
        [
          ["Authorization", good],
          ["AUTHORIZATION", "Basic x"],
        ],
      ],
      [
        "an empty one",
        [
          ["authorization", ""],
          ["authorization", good],
        ],
      ],
    ];
    await calls.assertRefusedEverywhere(pairs.map(([what, headers]) => ({ what, headers, why: "several" })));
  });

  test("S-JWT-23 the scheme in any case, one space, nothing else", async () => {
    const token = person.accessToken;
    for (const scheme of ["bearer", "BEARER", "bEaReR"]) {
      await calls.assertAccepted([["authorization", `${scheme} ${token}`]], [hello]);
    }
    const values = [
      `Bearer\t${token}`,
      `Bearer  ${token}`,
      `Bearer ${token} x`,
      `Bearer ${token},Bearer ${token}`.replace(",", ", "),
      `Basic ${token}`,
      `Basic ${Buffer.from(`ann:${token}`).toString("base64")}`,
      `Token ${token}`,
      token,
      `Bearer${token}`,
      "Bearer",
      "",
      `"Bearer ${token}"`,
      `Bearer: ${token}`,
      `Bearer\u00a0${token}`,
    ];
    await calls.assertRefusedEverywhere(
      values.map((value) => {
        return { what: value.replaceAll(token, "<token>"), headers: [["authorization", value]], why: "bad_scheme" };
      }),
      SHAPES_OF_A_FORGERY,
    );
  });

  test("S-JWT-23 a token anywhere but in the authorization header is not looked at", async () => {
    const value = `Bearer ${person.accessToken}`;
    const names = ["proxy-authorization", "x-authorization", "x-forwarded-authorization", "access-token", "cookie"];
    await calls.assertRefusedEverywhere(
      names.map((name) => ({
        what: name,
        headers: [[name, name === "cookie" ? `authorization=${value}` : value]],
        why: "missing",
      })),
    );
    const path = `/${GreeterService.typeName}/SayHello?access_token=${person.accessToken}`;
    for (const wire of allWires) {
      const { code } = await calls.send(hello, { wire, httpMethod: "POST" }, [], path);
      assert.equal(code, Code.Unauthenticated, wireName(wire));
    }
  });

  test("S-REF-11 after logout the same token, used before, is refused within a second", async () => {
    const leaver = await system.newUser();
    await calls.assertAccepted(bearer(leaver.accessToken));

    await system.asUser(AuthService).logout({ refreshToken: leaver.refreshToken });

    const headers = bearer(leaver.accessToken);
    const loggedOutAt = performance.now();
    for (const target of [hello, me]) {
      const isRefused = async () => (await calls.send(target, shapes[0]!, headers)).code === Code.Unauthenticated;
      await until(`${target.method.name} refuses it`, isRefused);
    }
    assert.ok(performance.now() - loggedOutAt < 1_000);
    await calls.assertRefusedEverywhere([{ what: "after logout", headers, why: "session_ended" }]);
    await calls.assertAccepted(bearer(person.accessToken), [hello]);
  });

  test("no token, good or bad, is in the log", async () => {
    const shape = shapes[0]!;
    for (const id of Object.keys(FORGED)) {
      await calls.send(hello, shape, bearer(forgeries.find((forgery) => forgery.id === id)!.token));
    }
    await calls.send(hello, shape, bearer(person.accessToken));
    await calls.send(hello, shape, bearer(person.refreshToken));
    await calls.send(hello, shape, [], `/${GreeterService.typeName}/SayHello?access_token=${person.accessToken}`);
    assertNoTokenInLog();
  });

  function assertNoTokenInLog() {
    const log = JSON.stringify(system.logLines);
    for (const token of [...calls.sentTokens, person.accessToken, person.refreshToken]) {
      for (const part of token.split(/[^\w-]/).filter(({ length }) => length >= 20)) {
        assert.ok(!log.includes(part), `part of a token is in the log: ${part.slice(0, 12)}...`);
      }
    }
  }
});
