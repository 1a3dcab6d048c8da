/** The REST fallback against servers that answer badly, late or not at all, and whom it believes to be auth. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, beforeEach, describe, test } from "node:test";
import { inspect } from "node:util";
import { ConnectError } from "@connectrpc/connect";
import { systemClock } from "../clock.ts";
import type { CertifiedKey } from "../dev/certify.ts";
import { Code, reasonOf } from "../errors.ts";
import { createTestCertificates } from "../testing/certificates.ts";
import { createServiceKey } from "../token/key-making.ts";
import { createRestFallback } from "./rest.ts";

const key = createServiceKey("backend", "auth", "backend");
const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln";
const subject = { userId: crypto.randomUUID(), organizationId: crypto.randomUUID() };
const verified = {
  user_id: "u",
  organization_id: "",
  email: "a@b.c",
  is_active: true,
  permissions: ["x:y"],
  locals: [],
};
const certificates = await createTestCertificates();

let opened: AsyncDisposableStack;
beforeEach(() => {
  opened = new AsyncDisposableStack();
});
afterEach(() => opened.disposeAsync());

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server in the place of auth, and its connections. */
async function startPeer(answer: Answer, certificate?: CertifiedKey) {
  const server = certificate
    ? https.createServer({ cert: certificate.certificate, key: certificate.key }, answer)
    : http.createServer(answer);
  const sockets: Socket[] = [];
  server.on("connection", (socket: Socket) => sockets.push(socket.on("error", () => {})));
  await once(server.listen(0, "127.0.0.1"), "listening");
  opened.defer(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http${certificate ? "s" : ""}://127.0.0.1:${port}`, sockets };
}

function connect(url: string, options: { timeoutMs?: number; ca?: string } = {}) {
  return opened.use(createRestFallback({ url, key, clock: systemClock, ...options }));
}

const answerWith =
  (status: number, body: unknown): Answer =>
  (request, response) => {
    request.resume().once("end", () => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    });
  };

/** Code and reason of what a question ends with; it shows no secret. */
async function failureOf(question: Promise<unknown>): Promise<string> {
  const error = await question.then(
    () => assert.fail("it was answered"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConnectError, inspect(error));
  const shown = inspect(error, { depth: 12, showHidden: true });
  assert.doesNotMatch(shown, /eyJ/, "S-SDK-09");
  assert.ok(!shown.includes(key.secret), "S-SDK-09");
  return `${Code[error.code]} ${reasonOf(error)}`;
}

const AWAY = "Unavailable DEPENDENCY_UNAVAILABLE";

describe("an answer", () => {
  const refusals: [status: number, body: unknown, expected: string][] = [
    [401, { code: "unauthenticated", message: token, reason: "UNAUTHENTICATED" }, "Unauthenticated UNAUTHENTICATED"],
    [403, { code: "permission_denied", reason: "CALLER_NOT_ALLOWED" }, "PermissionDenied CALLER_NOT_ALLOWED"],
    [404, { code: "not_found", reason: "USER_NOT_FOUND" }, "NotFound USER_NOT_FOUND"],
    [400, { code: "invalid_argument", reason: "MALFORMED_MESSAGE" }, "InvalidArgument MALFORMED_MESSAGE"],
    [429, { code: "resource_exhausted", reason: "OVERLOADED" }, "ResourceExhausted OVERLOADED"],
    [503, { code: "unavailable", reason: "AUTH_STALE" }, "Unavailable AUTH_STALE"],
    [500, { code: "internal", reason: "INTERNAL" }, AWAY],
  ];
  for (const [status, body, expected] of refusals) {
    test(`of ${status} in the form of Concierge is ${expected}`, async () => {
      const { url } = await startPeer(answerWith(status, body));
      assert.equal(await failureOf(connect(url).verifyToken(token)), expected);
    });
  }

  const foreign: [what: string, status: number, body: unknown][] = [
    ["a proxy's 401", 401, "<h1>Who are you?</h1>"],
    ["a proxy's 404", 404, { error: "no route" }],
    ["a code under another status", 404, { code: "unauthenticated", reason: "UNAUTHENTICATED" }],
    ["a code that is none", 401, { code: "__proto__", reason: "UNAUTHENTICATED" }],
    ["a reason that is none", 401, { code: "unauthenticated", reason: `${token} is wrong` }],
    ["a redirect", 302, ""],
    ["502", 502, "Bad Gateway"],
    ["text", 200, "fine"],
    ["null", 200, "null"],
    ["a list", 200, []],
    ["branches without ids", 200, { locals: ["x"] }],
    ["nothing for a branch", 200, { locals: [null] }],
  ];
  for (const [what, status, body] of foreign) {
    test(`that is not auth's says nothing (${what})`, async () => {
      const { url } = await startPeer(answerWith(status, body));
      const rest = connect(url);
      assert.equal(await failureOf(rest.verifyToken(token)), AWAY);
      assert.equal(await failureOf(rest.getUserLocals(subject)), AWAY);
    });
  }

  const misshapen: [what: string, body: object][] = [
    ["somebody who is maybe active", { ...verified, is_active: "true" }],
    ["permissions in one text", { ...verified, permissions: "admin" }],
    ["permissions that are none", { ...verified, permissions: ["x:y", 1] }],
    ["no user", { ...verified, user_id: undefined }],
  ];
  for (const [what, body] of misshapen) {
    test(`in which something is amiss says nothing (${what})`, async () => {
      const { url } = await startPeer(answerWith(200, body));
      assert.equal(await failureOf(connect(url).verifyToken(token)), AWAY);
    });
  }

  test("that does not end is cut off at four MiB", async () => {
    const { url } = await startPeer((_, response) => {
      const chunk = "x".repeat(64 * 1024);
      const write = () => {
        while (!response.destroyed && response.write(chunk));
        if (!response.destroyed) response.once("drain", write);
      };
      write();
    });
    assert.equal(await failureOf(connect(url).verifyToken(token)), "ResourceExhausted MESSAGE_TOO_LARGE");
  });
});

describe("a server", () => {
  const silences: [what: string, answer: Answer][] = [
    ["says nothing", () => {}],
    ["stops in the middle", (_, response) => void response.writeHead(200).write('{"user_id":')],
  ];
  for (const [what, answer] of silences) {
    test(`that ${what} is given up in time`, async () => {
      const { url } = await startPeer(answer);
      const startedAt = performance.now();
      assert.equal(await failureOf(connect(url, { timeoutMs: 100 }).verifyToken(token)), AWAY);
      const tookMs = performance.now() - startedAt;
      assert.ok(tookMs >= 95 && tookMs < 1_900, `${tookMs} ms`);
    });
  }

  test("that is not there, or cuts the connection, is UNAVAILABLE at once", async () => {
    assert.equal(await failureOf(connect("http://127.0.0.1:1").verifyToken(token)), AWAY);
    const { url } = await startPeer(({ socket }) => void socket.destroy());
    assert.equal(await failureOf(connect(url).verifyToken(token)), AWAY);
  });

  test("keeps its connection, and one that it ends while it is idle harms no question", async () => {
    let isRude = false;
    const { url, sockets } = await startPeer((request, response) => {
      if (isRude) {
        isRude = false;
        request.socket.resetAndDestroy();
      } else answerWith(200, verified)(request, response);
    });
    const rest = connect(url);
    for (let question = 0; question < 3; question++) await rest.verifyToken(token);
    assert.equal(sockets.length, 1);
    // As if the question and the end had crossed.
    isRude = true;
    assert.equal((await rest.verifyToken(token)).userId, "u");
    assert.equal(sockets.length, 2);
  });

  test("loses all connections when the fallback is disposed of, and questions end", async () => {
    const arrived = Promise.withResolvers<void>();
    const { url, sockets } = await startPeer(() => arrived.resolve());
    const rest = createRestFallback({ url, key, clock: systemClock });
    const question = failureOf(rest.verifyToken(token));
    await arrived.promise;
    const closed = once(sockets[0]!, "close");
    rest[Symbol.dispose]();
    rest[Symbol.dispose]();
    assert.equal(await question, AWAY);
    await closed;
  });
});

describe("S-H2-14 over TLS", () => {
  test("a server with a good certificate is asked", async () => {
    const { url } = await startPeer(answerWith(200, verified), certificates.good);
    assert.deepEqual(await connect(url, { ca: certificates.ca }).verifyToken(token), {
      ...{ userId: "u", organizationId: "", email: "a@b.c", active: true, permissions: ["x:y"], locals: [] },
    });
  });

  for (const bad of ["expired", "selfSigned", "wrongName"] as const) {
    test(`C5 one with a bad certificate is not (${bad}), and nothing is sent`, async () => {
      const { url } = await startPeer(() => assert.fail("it was asked"), certificates[bad]);
      assert.equal(await failureOf(connect(url, { ca: certificates.ca }).verifyToken(token)), AWAY);
    });
  }
});

test("S-SDK-09 a fallback shows neither its key nor anything else", () => {
  const rest = connect("http://127.0.0.1:1");
  assert.ok(!inspect(rest, { depth: 12, showHidden: true }).includes(key.secret));
  assert.equal(JSON.stringify(rest), "{}");
});
