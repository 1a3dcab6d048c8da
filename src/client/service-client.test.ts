import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { Code, reasonOf } from "../errors.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { freePort } from "../testing/command.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { createServiceKey } from "../token/key-making.ts";
import { createServiceTokenVerifier, SERVICE_TOKEN_HEADER } from "../token/service-token.ts";
import { connectService } from "./service-client.ts";

const key = createServiceKey("user", "auth", "service");
const GET_ACCOUNT = "/concierge.auth.v1.AuthInternalService/GetAccount";
const userId = "0198c5a0-0000-7000-8000-000000000000";

const isDependencyUnavailable = (error: unknown) => {
  assert.equal((error as { code?: Code }).code, Code.Unavailable, String(error));
  assert.equal(reasonOf(error), "DEPENDENCY_UNAVAILABLE");
  return true;
};

function rootCauseOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? rootCauseOf(error.cause) : error;
}

/** A client of GetAccount at an address. */
function connectTo(baseUrl: string) {
  const connection = connectService({ baseUrl, key, clock: systemClock });
  return { client: connection.client(AuthInternalService), [Symbol.dispose]: () => connection[Symbol.dispose]() };
}

describe("a peer that is not there", () => {
  test("one that is down is UNAVAILABLE / DEPENDENCY_UNAVAILABLE at once", async () => {
    const port = await freePort();
    using peer = connectTo(`http://127.0.0.1:${port}`);
    const error = await peer.client.getAccount({ userId }).catch((thrown: unknown) => thrown);
    isDependencyUnavailable(error);
    // It is the connection's own error, and not a deadline, that ended the call.
    assert.equal((rootCauseOf(error) as { code?: string }).code, "ECONNREFUSED");
  });

  test("one that is silent is given up at the deadline", async () => {
    await using silent = await tcpServer(() => {});
    using peer = connectTo(silent.url);
    const leaving = new AbortController();
    let patientIsOver = false;
    const patient = peer.client.getAccount({ userId }, { signal: leaving.signal }).catch(() => {
      patientIsOver = true;
    });
    const startedAt = performance.now();
    await assert.rejects(peer.client.getAccount({ userId }, { timeoutMs: 200 }), isDependencyUnavailable);
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs >= 190, `${tookMs} ms`);
    assert.ok(!patientIsOver, "it waited as long as a call that names no deadline");
    leaving.abort();
    await patient;
  });

  test("one that refuses a stream unread is asked once more, with a token of its own", async () => {
    const tokens: unknown[] = [];
    await using refusing = await http2Server((stream, headers) => {
      tokens.push(headers[SERVICE_TOKEN_HEADER]);
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    });
    using peer = connectTo(refusing.url);
    await assert.rejects(peer.client.getAccount({ userId }, { timeoutMs: 2_000 }), isDependencyUnavailable);
    assert.equal(tokens.length, 2);
    assert.equal(new Set(tokens).size, 2);
  });

  test("one that takes the call and does not answer it is given up at the deadline", async () => {
    await using holding = await http2Server(() => {});
    using peer = connectTo(holding.url);
    await assert.rejects(peer.client.getAccount({ userId }, { timeoutMs: 200 }), isDependencyUnavailable);
  });

  test("one that hangs up before the call is UNAVAILABLE / DEPENDENCY_UNAVAILABLE", async () => {
    await using rude = await tcpServer((socket) => socket.destroy());
    using peer = connectTo(rude.url);
    await assert.rejects(peer.client.getAccount({ userId }, { timeoutMs: 2_000 }), isDependencyUnavailable);
  });

  const endings: [how: string, end: (stream: http2.ServerHttp2Stream) => void][] = [
    ["closes the connection", ({ session }) => session!.destroy()],
    ["dies", ({ session }) => void session!.socket.destroy()],
    ["gives up the connection", ({ session }) => session!.destroy(undefined, http2.constants.NGHTTP2_INTERNAL_ERROR)],
    ["cancels the stream", (stream) => stream.close(http2.constants.NGHTTP2_CANCEL)],
    ["refuses the stream", (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)],
    ["is behind a balancer that has no peer", (stream) => stream.respond({ ":status": 503 }, { endStream: true })],
    [
      "dies in the middle of its answer",
      (stream) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc+proto" });
        stream.write(Buffer.from([0, 0, 0]), () => stream.session!.destroy());
      },
    ],
  ];
  for (const [how, end] of endings) {
    test(`one that ${how} during the call is UNAVAILABLE / DEPENDENCY_UNAVAILABLE`, async () => {
      await using dying = await http2Server(end);
      using peer = connectTo(dying.url);
      await assert.rejects(peer.client.getAccount({ userId }, { timeoutMs: 2_000 }), isDependencyUnavailable);
    });
  }
});

describe("a call on its way", () => {
  test("carries a token of its own and a deadline, also when the caller names none", async () => {
    const seen: http2.IncomingHttpHeaders[] = [];
    await using answering = await http2Server((stream, headers) => {
      seen.push(headers);
      stream.respond(
        { ":status": 200, "content-type": "application/grpc+proto", "grpc-status": "5" },
        { endStream: true },
      );
    });
    using peer = connectTo(answering.url);
    for (const options of [{}, { timeoutMs: 70_000 }]) {
      await assert.rejects(peer.client.getAccount({ userId }, options), { code: Code.NotFound });
    }
    const verify = createServiceTokenVerifier("auth", [key], systemClock);
    const ids = seen.map((headers) => {
      const verified = verify(String(headers[SERVICE_TOKEN_HEADER]), GET_ACCOUNT);
      assert.ok(verified.ok);
      assert.ok(verified.claims.digest);
      return verified.claims.tokenId;
    });
    assert.equal(new Set(ids).size, 2);
    assert.deepEqual(
      seen.map((headers) => headers["grpc-timeout"]),
      ["5000m", "70000m"],
    );
  });

  test("an UNAVAILABLE that the peer answered is the peer's, not ours", async () => {
    await using busy = await http2Server((stream) => {
      stream.respond(
        { ":status": 200, "content-type": "application/grpc+proto", "grpc-status": "14" },
        { endStream: true },
      );
    });
    using peer = connectTo(busy.url);
    await assert.rejects(peer.client.getAccount({ userId }), (error) => {
      assert.equal((error as { code?: Code }).code, Code.Unavailable);
      assert.equal(reasonOf(error), undefined);
      return true;
    });
  });

  test("a caller that goes away cancels the call at the peer", async () => {
    const arrived = Promise.withResolvers<http2.ServerHttp2Stream>();
    await using holding = await http2Server((stream) => arrived.resolve(stream));
    using peer = connectTo(holding.url);
    const leaving = new AbortController();
    const call = peer.client.getAccount({ userId }, { signal: leaving.signal });
    call.catch(() => {});
    const stream = await arrived.promise;
    const closed = once(stream, "close");
    leaving.abort();
    await assert.rejects(call, { code: Code.Canceled });
    await closed;
    assert.equal(stream.rstCode, http2.constants.NGHTTP2_CANCEL);
  });

  test("a disposed connection is closed", async () => {
    const arrived = Promise.withResolvers<http2.ServerHttp2Stream>();
    await using holding = await http2Server((stream) => arrived.resolve(stream));
    const peer = connectTo(holding.url);
    const call = peer.client.getAccount({ userId });
    call.catch(() => {});
    const { session } = await arrived.promise;
    const closed = new Promise((resolve) => session!.once("close", resolve));
    peer[Symbol.dispose]();
    await closed;
    await assert.rejects(call);
    peer[Symbol.dispose]();
  });
});

describe("a peer that is there", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access] });
  });

  after(() => system[Symbol.asyncDispose]());

  test("errors that it answered keep code and reason", async () => {
    const client = system.asService(AuthInternalService, "user", "auth");
    await assert.rejects(client.getAccount({ userId }), (error) => {
      assert.equal((error as { code?: Code }).code, Code.NotFound);
      assert.equal(reasonOf(error), "ACCOUNT_NOT_FOUND");
      return true;
    });
    await assert.rejects(client.getAccount({ userId: "x" }), (error) => reasonOf(error) === "INVALID_REQUEST");
    const roles = system.asService(AccessInternalService, "user", "access");
    await assert.rejects(roles.listRoles({}), (error) => reasonOf(error) === "CALLER_NOT_ALLOWED");
  });

  test("a method with effects may be called again and again: each call has a token of its own", async () => {
    const client = system.asService(AccessInternalService, "backend", "access");
    for (const name of ["first", "second", "third"]) {
      const { role } = await client.createRole({ name, description: "Zoë 🦉" });
      assert.equal(role?.name, name);
    }
  });

  test("after the peer restarted the next call reaches it", async () => {
    const [publicPort, internalPort] = [await freePort(), await freePort()];
    const start = async () => {
      const replica = await system.startReplica({
        CONCIERGE_PUBLIC_PORT: String(publicPort),
        CONCIERGE_INTERNAL_PORT: String(internalPort),
      });
      await replica.ready;
      return replica;
    };
    const { clock } = system;
    const baseUrl = `http://127.0.0.1:${internalPort}`;
    using connection = connectService({ baseUrl, key: system.keyOf("backend", "access"), clock });
    const client = connection.client(AccessInternalService);
    for (let life = 0; life < 2; life++) {
      await assert.rejects(client.listRoles({}), isDependencyUnavailable);
      await using _replica = await start();
      assert.ok((await client.listRoles({})).roles.length > 0);
    }
    await assert.rejects(client.listRoles({}), isDependencyUnavailable);
  });
});

function tcpServer(onConnection: (socket: net.Socket) => void) {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    onConnection(socket);
  });
  return listening(server, () => sockets.forEach((socket) => void socket.destroy()));
}

function http2Server(onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void) {
  const sessions = new Set<http2.ServerHttp2Session>();
  const server = http2.createServer();
  server.on("session", (session) => sessions.add(session.on("error", () => {})));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    onStream(stream, headers);
  });
  return listening(server, () => sessions.forEach((session) => void session.destroy()));
}

async function listening(server: net.Server, cut: () => void) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      cut();
      await closed;
    },
  };
}
