/** A peer that goes without a word is noticed; one that only takes its time keeps its connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import type net from "node:net";
import { test } from "node:test";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { Code, reasonOf } from "../errors.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import { LiveConnection } from "./live-connection.ts";
import { PRESETS } from "./resilience.ts";
import { connectService, type ServiceClientOptions } from "./service-client.ts";

const key = createServiceKey("user", "auth", "service");
const userId = "0198c5a0-0000-7000-8000-000000000000";

/** A server that answers every call NOT_FOUND, unless told to hold it; all of its sessions. */
async function startPeer() {
  const sessions = new Set<http2.ServerHttp2Session>();
  const held: http2.ServerHttp2Stream[] = [];
  const state = { holds: false, opened: 0 };
  const server = http2.createServer();
  server.on("session", (session) => {
    state.opened++;
    sessions.add(session);
    session.on("error", () => {}).once("close", () => sessions.delete(session));
  });
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    if (state.holds) held.push(stream);
    else
      stream.respond(
        { ":status": 200, "content-type": "application/grpc+proto", "grpc-status": "5" },
        { endStream: true },
      );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    ...{ state, sessions, held },
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function connectTo(port: number, resilience?: ServiceClientOptions["resilience"]) {
  const connection = connectService({ baseUrl: `http://127.0.0.1:${port}`, key, clock: systemClock, resilience });
  const client = connection.client(AuthInternalService);
  const call = (timeoutMs = 10_000) =>
    client.getAccount({ userId }, { timeoutMs }).then(
      () => "answered",
      (error: { code?: Code }) => (error.code === Code.NotFound ? "answered" : reasonOf(error)),
    );
  return { call, [Symbol.dispose]: () => connection[Symbol.dispose]() };
}

test("behind a black hole, calls fail at their deadline, and soon after they have a new connection", async () => {
  await using peer = await startPeer();
  await using proxy = await startFaultProxy({ host: "127.0.0.1", port: peer.port });
  using client = connectTo(proxy.port);
  assert.equal(await client.call(), "answered");
  proxy.hang();
  const waiting = client.call();
  assert.equal(await client.call(100), "DEPENDENCY_UNAVAILABLE");
  // The ping is not answered either: whoever still waits is told long before the deadline of ten seconds.
  const startedAt = performance.now();
  assert.equal(await waiting, "DEPENDENCY_UNAVAILABLE");
  assert.ok(performance.now() - startedAt < 5_000);
  await proxy.heal();
  assert.equal(await client.call(), "answered");
  assert.equal(peer.state.opened, 2);
});

test("a peer that takes its time, or whose callers leave, keeps its connection", async () => {
  await using peer = await startPeer();
  using client = connectTo(peer.port);
  peer.state.holds = true;
  const waiting = client.call();
  assert.deepEqual(await Promise.all([client.call(50), client.call(50)]), Array(2).fill("DEPENDENCY_UNAVAILABLE"));
  // Longer than a ping may take.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  const [stream] = peer.held;
  stream!.respond(
    { ":status": 200, "content-type": "application/grpc+proto", "grpc-status": "5" },
    { endStream: true },
  );
  assert.equal(await waiting, "answered");
  assert.equal(peer.state.opened, 1);
});

test("R-DEP-05 a connection that ends while its peer is being asked harms nobody", async () => {
  const endings: ((session: http2.ServerHttp2Session) => void)[] = [
    (session) => session.goaway(http2.constants.NGHTTP2_NO_ERROR),
    (session) => session.goaway(http2.constants.NGHTTP2_INTERNAL_ERROR),
    (session) => session.close(),
    (session) => session.destroy(),
    (session) => session.destroy(undefined, http2.constants.NGHTTP2_ENHANCE_YOUR_CALM),
    (session) => void session.socket.destroy(),
    ({ socket }) => void (socket as net.Socket & { resetAndDestroy?(): void }).resetAndDestroy?.(),
  ];
  for (const end of endings) {
    await using peer = await startPeer();
    using client = connectTo(peer.port);
    assert.equal(await client.call(), "answered");
    peer.state.holds = true;
    const call = client.call(40);
    await until("the call is held", () => peer.held.length === 1);
    const [session] = peer.sessions;
    // When the call has been given up, the ping is under way.
    peer.held[0]!.once("close", () => end(session!));
    assert.equal(await call, "DEPENDENCY_UNAVAILABLE");
    peer.state.holds = false;
    await until("it is answered again", async () => (await client.call(500)) === "answered");
  }
});

test("a call that ends before it has a connection, or after it was closed, asks nobody", async () => {
  await using peer = await startPeer();
  const connection = new LiveConnection(`http://127.0.0.1:${peer.port}`);
  assert.equal(connection.authority, `http://127.0.0.1:${peer.port}`);
  const stream = await connection.request("POST", "/", {}, {});
  stream.on("error", () => {});
  const closed = once(stream, "close").catch(() => {});
  connection[Symbol.dispose]();
  connection[Symbol.dispose]();
  await closed;
});

test("a connection that was closed is not opened again, neither by a call nor by one that is tried again", async () => {
  await using peer = await startPeer();
  using client = connectTo(peer.port, { ...PRESETS.default, name: "auth", log: { info() {}, warn() {}, error() {} } });
  peer.state.holds = true;
  const call = client.call();
  await until("the call is held", () => peer.held.length === 1);
  client[Symbol.dispose]();
  assert.equal(await call, "DEPENDENCY_UNAVAILABLE");
  assert.equal(await client.call(), "DEPENDENCY_UNAVAILABLE");
  assert.equal(peer.state.opened, 1);
});
