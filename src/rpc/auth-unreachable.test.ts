import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import http2 from "node:http2";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../clock.ts";
import { Code } from "../errors.ts";
import type { NodeRequest, NodeResponse } from "../listener/listener.ts";
import { type Listener, listen } from "../listener/listener.ts";
import { greeter } from "../services/greeter/service.ts";
import { compact, forgeTokens, signWith } from "../testing/forged-tokens.ts";
import { startTestService, type TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";
import { FRESH_MS } from "../token/freshness.ts";
import { publicKeySet } from "../token/signing-keys.ts";
import { answerJson } from "./json.ts";

const FLOOD = 2_000;
const IN_FLIGHT = 100;
const KEYS_PATH = "/.well-known/jwks.json";
const hello = { method: GreeterService.method.sayHello, message: { name: "Ann" } };

const place = { epoch: "1", position: 0n };

/** How something in auth's place answers whatever is about sessions. */
type Behaviour = (response: NodeResponse) => void;

/** What auth answers of sessions as long as nobody logs out. */
const quietFeed = connectNodeAdapter({
  routes(router) {
    router.service(AuthInternalService, { listEndedSessions: () => ({ start: place }) });
    router.service(FeedInternalService, {
      async read() {
        await delay(100);
        return { next: place, complete: true };
      },
    });
  },
});

const grpcStatus =
  (status: Code): Behaviour =>
  (response) => {
    response.setHeader("content-type", "application/grpc+proto");
    response.setHeader("grpc-status", String(status));
    response.end();
  };

const silent: Behaviour = () => {};

const httpStatus =
  (status: number): Behaviour =>
  (response) => {
    response.statusCode = status;
    response.end();
  };

describe("greeter while auth publishes its keys and can, or could until now, do nothing else", () => {
  let system: TestSystem;
  let inPlaceOfAuth: Listener;
  let behaviour: Behaviour = httpStatus(503);
  let isFollowed = true;
  let keyRequests = 0;
  let keySetsGiven = 0;
  let sessionQuestions = 0;

  before(async () => {
    inPlaceOfAuth = await startInPlaceOfAuth(0);
    system = await startTestService(greeter, { variables: { CONCIERGE_GREETER_AUTH_URL: inPlaceOfAuth.url } });
    await system.server.ready;
    // Once for its start, and once more by the job that runs every minute from then on.
    await until("greeter has fetched its keys twice", () => keySetsGiven >= 2);
  });

  /** Its knowledge of sessions is as old as it may be, or a millisecond older. */
  async function loseFeed(ageMs: number) {
    // What was read before does not count any more.
    await system.advance(2 * FRESH_MS);
    await until("greeter is up to date", async () => {
      const { code } = await greet();
      return code === undefined;
    });
    isFollowed = false;
    // Whatever is on its way was asked before this.
    await system.advance(ageMs);
  }

  beforeEach(() => {
    isFollowed = true;
  });

  after(async () => {
    await system[Symbol.asyncDispose]();
    await inPlaceOfAuth.drain(0);
  });

  function startInPlaceOfAuth(port: number): Promise<Listener> {
    return listen({
      host: "127.0.0.1",
      port,
      clock: systemClock,
      handler(request, response) {
        if (request.url === KEYS_PATH) return answerKeys(request, response);
        if (request.url?.endsWith("/CheckSession")) sessionQuestions++;
        else if (isFollowed) return quietFeed(request as IncomingMessage, response as ServerResponse);
        request.resume();
        behaviour(response);
      },
    });
  }

  function answerKeys(_: NodeRequest, response: NodeResponse) {
    keyRequests++;
    // The first request comes while the system is being started: its keys are known right after.
    if (!system) return httpStatus(503)(response);
    keySetsGiven++;
    answerJson(response, 200, publicKeySet(system.signingKeys));
  }

  function goodClaims() {
    const nowSeconds = Math.floor(system.clock.now() / 1000);
    const [sub, sid, jti] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
    const times = { iat: nowSeconds, auth_time: nowSeconds, exp: nowSeconds + 300 };
    return { iss: "http://127.0.0.1:8080", aud: "concierge", sub, sid, jti, gen: 0, ...times };
  }

  function goodToken(): string {
    const key = system.signingKeys.keys[0]!;
    const sign = signWith(key.alg, createPrivateKey({ key, format: "jwk" }));
    return compact({ alg: key.alg, typ: "at+jwt", kid: key.kid }, goodClaims(), sign);
  }

  function greet(wire = allWires[0]!) {
    return callWire(wire, system.publicUrl, { ...hello, headers: [["authorization", `Bearer ${goodToken()}`]] });
  }

  /** Asks on every wire, each with a session of its own, as answers about one session are shared. */
  async function assertStale() {
    const askedBefore = sessionQuestions;
    await Promise.all(
      allWires.map(async (wire) => {
        const { code, reason, message } = await greet(wire);
        assert.equal(code, Code.Unavailable, wireName(wire));
        assert.equal(reason, "AUTH_STALE", wireName(wire));
        assert.equal(message, "the session could not be checked", wireName(wire));
      }),
    );
    return sessionQuestions - askedBefore;
  }

  test("S-REF-16 what was known goes for 4.5 s, and auth is not asked", async () => {
    behaviour = httpStatus(503);
    await loseFeed(FRESH_MS);
    const askedBefore = sessionQuestions;
    const answers = await Promise.all(allWires.map((wire) => greet(wire)));
    assert.deepEqual(new Set(answers.map(({ code }) => code)), new Set([undefined]));
    assert.equal(sessionQuestions, askedBefore);
    await system.advance(1);
    assert.equal(await assertStale(), allWires.length);
  });

  test("S-REF-16 no answer about a session is never a refusal: AUTH_STALE", async () => {
    behaviour = httpStatus(503);
    await loseFeed(FRESH_MS + 1);
    const odd = [httpStatus(503), httpStatus(401), httpStatus(200), grpcStatus(Code.Unauthenticated)];
    for (const next of [...odd, grpcStatus(Code.PermissionDenied), grpcStatus(Code.NotFound), silent]) {
      behaviour = next;
      assert.equal(await assertStale(), allWires.length);
    }
  });

  test("a forged token is refused all the same, and auth is not asked about it", async () => {
    const key = system.signingKeys.keys[0]!;
    const claims = goodClaims();
    const forged = forgeTokens({ key, claims, nowSeconds: claims.iat, trapUrl: inPlaceOfAuth.url });
    const [keysBefore, askedBefore] = [keyRequests, sessionQuestions];
    for (const { id, what, token } of forged) {
      const headers = [["authorization", `Bearer ${token}`]] as const;
      const { code, reason } = await callWire(allWires[0]!, system.publicUrl, { ...hello, headers });
      assert.deepEqual([code, reason], [Code.Unauthenticated, "UNAUTHENTICATED"], `${id} ${what}`);
    }
    assert.equal(sessionQuestions, askedBefore);
    // S-JWT-06: the trap is the very server that is allowed to be asked for keys; the forged ids cost one request.
    assert.ok(keyRequests - keysBefore <= 1, `${keyRequests - keysBefore} requests for keys`);
  });

  /** Calls with so many different key ids over one connection; answers how often each HTTP status came. */
  async function flood(calls: number): Promise<Record<string, number>> {
    const session = http2.connect(system.publicUrl);
    const statuses: Record<string, number> = {};
    const sign = () => Buffer.alloc(64, 1);
    let sent = 0;
    const caller = async () => {
      while (sent < calls) {
        const header = { alg: "ES256", typ: "at+jwt", kid: `unknown-${sent++}` };
        const stream = session.request({
          ":method": "POST",
          ":path": `/${GreeterService.typeName}/SayHello`,
          "content-type": "application/json",
          authorization: `Bearer ${compact(header, {}, sign)}`,
        });
        stream.end("{}").resume();
        const status = await new Promise((resolve, reject) => {
          stream.once("response", (headers) => resolve(headers[":status"])).once("error", reject);
        });
        statuses[String(status)] = (statuses[String(status)] ?? 0) + 1;
      }
    };
    try {
      await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
      return statuses;
    } finally {
      session.destroy();
    }
  }

  test("S-JWT-05 unknown key ids make greeter look for keys once in 30 s, however many they are", async () => {
    await system.advance(30_000);
    const before = keyRequests;
    assert.deepEqual(await flood(FLOOD), { 401: FLOOD });
    assert.equal(keyRequests - before, 1);
    await system.advance(29_999);
    assert.deepEqual(await flood(IN_FLIGHT), { 401: IN_FLIGHT });
    assert.equal(keyRequests - before, 1);
    await system.advance(1);
    assert.deepEqual(await flood(IN_FLIGHT), { 401: IN_FLIGHT });
    assert.equal(keyRequests - before, 2);
  });

  test("S-REF-16 auth gone altogether: AUTH_STALE, and unknown key ids are still refused", async () => {
    await loseFeed(FRESH_MS + 1);
    await inPlaceOfAuth.drain(0);
    try {
      assert.equal(await assertStale(), 0);
      await system.advance(30_000);
      assert.deepEqual(await flood(IN_FLIGHT), { 401: IN_FLIGHT });
    } finally {
      inPlaceOfAuth = await startInPlaceOfAuth(inPlaceOfAuth.port);
    }
  });
});
