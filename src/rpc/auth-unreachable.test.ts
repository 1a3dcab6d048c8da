import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import http2 from "node:http2";
import { after, before, describe, test } from "node:test";
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
import { publicKeySet } from "../token/signing-keys.ts";
import { answerJson } from "./json.ts";

const FLOOD = 2_000;
const IN_FLIGHT = 100;
const KEYS_PATH = "/.well-known/jwks.json";
const hello = { method: GreeterService.method.sayHello, message: { name: "Ann" } };

/** How something in auth's place answers the question whether a session is live. */
type Behaviour = (response: NodeResponse) => void;

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

describe("greeter while auth publishes its keys and can do nothing else", () => {
  let system: TestSystem;
  let inPlaceOfAuth: Listener;
  let behaviour: Behaviour = httpStatus(503);
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
        sessionQuestions++;
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

  /** Asks on every wire, each with a session of its own, as answers about one session are shared. */
  async function assertStale() {
    const askedBefore = sessionQuestions;
    await Promise.all(
      allWires.map(async (wire) => {
        const headers = [["authorization", `Bearer ${goodToken()}`]] as const;
        const { code, reason, message } = await callWire(wire, system.publicUrl, { ...hello, headers });
        assert.equal(code, Code.Unavailable, wireName(wire));
        assert.equal(reason, "AUTH_STALE", wireName(wire));
        assert.equal(message, "the session could not be checked", wireName(wire));
      }),
    );
    return sessionQuestions - askedBefore;
  }

  test("S-REF-16 no answer about a session is never a refusal: AUTH_STALE", async () => {
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
