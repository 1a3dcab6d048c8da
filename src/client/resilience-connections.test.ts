/** Connections that break under calls which may be tried again: the caller does not notice. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import type net from "node:net";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { Code } from "../errors.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import { PRESETS } from "./resilience.ts";
import { connectService } from "./service-client.ts";

const key = createServiceKey("user", "auth", "service");
const userId = "0198c5a0-0000-7000-8000-000000000000";
const ATTEMPT_MS = 500;

type OnStream = (stream: http2.ServerHttp2Stream, session: http2.ServerHttp2Session) => void;

async function startPeer(onStream: OnStream) {
  const sessions: http2.ServerHttp2Session[] = [];
  const server = http2.createServer();
  server.on("session", (session) => {
    sessions.push(session.on("error", () => {}));
    session.on("stream", (stream) =>
      onStream(
        stream.on("error", () => {}),
        session,
      ),
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    sessions,
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** NOT_FOUND: the peer has been reached. */
function answer(stream: http2.ServerHttp2Stream): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto", "grpc-status": "5" }, { endStream: true });
}

/** GetAccount has no side effects. */
function connectTo(port: number) {
  const log = { info() {}, warn() {}, error() {} };
  const retry = { ...PRESETS.default.retry, firstMs: 1, maxMs: 2 };
  const resilience = { ...PRESETS.default, attemptTimeoutMs: ATTEMPT_MS, retry, name: "auth", log };
  const connection = connectService({ baseUrl: `http://127.0.0.1:${port}`, key, clock: systemClock, resilience });
  const client = connection.client(AuthInternalService);
  return {
    connection,
    call: () =>
      client.getAccount({ userId }).then(
        () => "answered",
        (error: { code: Code }) => (error.code === Code.NotFound ? "answered" : Code[error.code]),
      ),
    [Symbol.dispose]: () => connection[Symbol.dispose](),
  };
}

for (const fault of ["cut", "reset", "hang"] as const) {
  test(`R-SDK-02 a connection that breaks in the middle of a call (${fault}) costs a retry, and no error`, async () => {
    let streams = 0;
    // The second one is never answered.
    await using peer = await startPeer((stream) => ++streams !== 2 && answer(stream));
    await using proxy = await startFaultProxy({ host: "127.0.0.1", port: peer.port });
    using client = connectTo(proxy.port);
    assert.equal(await client.call(), "answered");
    const call = client.call();
    await until("it arrived", () => streams === 2);
    proxy[fault]();
    // Behind the black hole the second try must fail, too.
    if (fault === "hang") await delay(ATTEMPT_MS + 100);
    await proxy.heal();
    assert.equal(await call, "answered");
    assert.equal(client.connection.breaker, "closed");
  });
}

test("R-DEP-05 GOAWAY, again and again, fails no call, and ends no process whose connection is closed just then", async () => {
  // Closed after its peer: Connect's manager has destroyed the last connection with an error by then, which is still to be emitted.
  using opened = new DisposableStack();
  let streams = 0;
  await using peer = await startPeer((stream, session) => {
    answer(stream);
    if (++streams % 10 === 0) session.goaway(http2.constants.NGHTTP2_NO_ERROR);
  });
  const client = opened.use(connectTo(peer.port));
  for (let round = 0; round < 20; round++) {
    for (const end of await Promise.all(Array.from({ length: 10 }, client.call))) assert.equal(end, "answered");
  }
  assert.equal(client.connection.breaker, "closed");
  assert.ok(peer.sessions.length > 10, `${peer.sessions.length} connections`);
});
