import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { systemClock } from "../clock.ts";
import { startFaultProxy } from "./fault-proxy.ts";

/** A server that sends back what it gets, and a proxy before it. */
async function startEcho() {
  const accepted: net.Socket[] = [];
  const server = net.createServer((socket) => {
    accepted.push(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const proxy = await startFaultProxy({ host: "127.0.0.1", port: (server.address() as net.AddressInfo).port });
  return {
    proxy,
    server,
    accepted,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      for (const socket of accepted) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function connect(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  socket.on("error", () => {});
  return socket;
}

/** Sends a text and waits until as many bytes have come back. Resolves to them and the milliseconds it took. */
async function echo(socket: net.Socket, text: string): Promise<{ text: string; tookMs: number }> {
  const start = systemClock.monotonic();
  socket.write(text);
  return { text: await receive(socket, text.length), tookMs: systemClock.monotonic() - start };
}

function receive(socket: net.Socket, length: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = "";
    const onData = (chunk: Buffer) => {
      received += chunk;
      if (received.length < length) return;
      socket.off("data", onData);
      resolve(received);
    };
    socket.on("data", onData);
    socket.once("close", () => reject(new Error("closed")));
  });
}

/** How a socket ends: the code of its error, or "closed". */
function endOf(socket: net.Socket): Promise<string> {
  let end = "closed";
  socket.once("error", (error: NodeJS.ErrnoException) => {
    end = String(error.code);
  });
  socket.resume();
  return new Promise((resolve) => socket.once("close", () => resolve(end)));
}

const isRefused = (error: NodeJS.ErrnoException) => error.code === "ECONNREFUSED";

test("without a fault everything passes, in order, both ways and to the end", async () => {
  await using edge = await startEcho();
  assert.equal(edge.proxy.url, `http://127.0.0.1:${edge.proxy.port}`);
  const socket = await connect(edge.proxy.port);
  assert.equal((await echo(socket, "hello")).text, "hello");
  assert.equal(edge.proxy.connectionCount(), 1);
  const large = Array.from({ length: 400_000 }, (_, index) => `${index},`).join("");
  assert.equal((await echo(socket, large)).text, large);
  const end = once(socket, "close");
  socket.end();
  await end; // the half that we closed reached the server, whose own end reached us
  assert.equal(edge.accepted[0]?.readableEnded, true);
});

test("latency delays each direction without thinning it, and ends with heal()", async () => {
  await using edge = await startEcho();
  const live = await connect(edge.proxy.port);
  await echo(live, "before");
  edge.proxy.latency(30);
  const fresh = await connect(edge.proxy.port);
  for (const socket of [live, fresh]) {
    const { text, tookMs } = await echo(socket, "slow");
    assert.equal(text, "slow");
    assert.ok(tookMs >= 58, `there and back took ${tookMs} ms`);
  }
  edge.proxy.latency(3_600_000);
  const held = echo(live, "held");
  await edge.proxy.heal();
  assert.equal((await held).text, "held");
  live.destroy();
  fresh.destroy();
});

test("byteRate limits each direction", async () => {
  await using edge = await startEcho();
  const socket = await connect(edge.proxy.port);
  edge.proxy.byteRate(20_000);
  const { text, tookMs } = await echo(socket, "x".repeat(3_000));
  assert.equal(text.length, 3_000);
  assert.ok(tookMs >= 140, `took ${tookMs} ms`);
  edge.proxy.byteRate(1);
  const held = echo(socket, "y".repeat(1_000));
  await edge.proxy.heal();
  assert.equal((await held).text, "y".repeat(1_000));
  socket.destroy();
});

test("hang holds the bytes of live and new connections, and heal() delivers them", async () => {
  await using edge = await startEcho();
  const live = await connect(edge.proxy.port);
  await echo(live, "before");
  edge.proxy.hang();
  const arrivals: string[] = [];
  edge.accepted[0]?.on("data", (chunk) => arrivals.push(`to server ${chunk}`));
  live.on("data", (chunk) => arrivals.push(`to client ${chunk}`));
  edge.accepted[0]?.write("from server");
  const fresh = await connect(edge.proxy.port);
  const answers = [echo(live, "held"), echo(fresh, "new")];
  // A connection straight to the server outruns nothing that was sent before it, so what passes would have passed.
  const direct = await connect((edge.server.address() as net.AddressInfo).port);
  for (let round = 0; round < 10; round++) await echo(direct, "round");
  assert.equal(arrivals.length, 0);
  assert.equal(edge.accepted.length, 2);
  assert.equal(edge.proxy.connectionCount(), 2);
  await edge.proxy.heal();
  await Promise.all(answers);
  const fromLive = arrivals.filter((arrival) => arrival.startsWith("to client")).map((arrival) => arrival.slice(10));
  assert.match(fromLive.join(""), /^from server(held)?$/);
  for (const socket of [live, fresh, direct]) socket.destroy();
});

test("hang holds back the closing of a connection too", async () => {
  await using edge = await startEcho();
  const live = await connect(edge.proxy.port);
  await echo(live, "before");
  edge.proxy.hang();
  let ended = false;
  const end = once(edge.accepted[0]!, "end").then(() => {
    ended = true;
  });
  const closed = once(live, "close");
  live.destroy();
  await closed;
  const direct = await connect((edge.server.address() as net.AddressInfo).port);
  for (let round = 0; round < 10; round++) await echo(direct, "round");
  assert.equal(ended, false);
  await edge.proxy.heal();
  await end;
  direct.destroy();
});

test("cut closes what is open and refuses what comes, until heal() on the same port", async () => {
  await using edge = await startEcho();
  const { port } = edge.proxy;
  const live = await connect(port);
  await echo(live, "before");
  const ends = Promise.all([endOf(live), once(edge.accepted[0]!, "close")]);
  edge.proxy.cut();
  await ends;
  await assert.rejects(connect(port), isRefused);
  await assert.rejects(connect(port), isRefused);
  assert.equal(edge.proxy.connectionCount(), 0);
  await edge.proxy.heal();
  assert.equal(edge.proxy.port, port);
  const again = await connect(port);
  assert.equal((await echo(again, "after")).text, "after");
  again.destroy();
});

test("reset sends RST to both sides of live connections and to new ones, until heal()", async () => {
  await using edge = await startEcho();
  const live = await connect(edge.proxy.port);
  await echo(live, "before");
  const ends = Promise.all([endOf(live), endOf(edge.accepted[0]!)]);
  edge.proxy.reset();
  assert.deepEqual(await ends, ["ECONNRESET", "ECONNRESET"]);
  assert.equal(await endOf(net.connect(edge.proxy.port, "127.0.0.1")), "ECONNRESET");
  assert.equal(edge.accepted.length, 1);
  await edge.proxy.heal();
  const again = await connect(edge.proxy.port);
  assert.equal((await echo(again, "after")).text, "after");
  again.destroy();
});

test("a reset by either side reaches the other as a reset", async () => {
  await using edge = await startEcho();
  for (const side of ["client", "server"]) {
    const client = await connect(edge.proxy.port);
    await echo(client, "before");
    const server = edge.accepted.at(-1)!;
    const [breaking, other] = side === "client" ? [client, server] : [server, client];
    const end = endOf(other);
    breaking.resetAndDestroy();
    assert.equal(await end, "ECONNRESET");
  }
});

test("a target that refuses ends the connection, and the proxy lives on", async () => {
  await using edge = await startEcho();
  const target = (edge.server.address() as net.AddressInfo).port;
  await new Promise((resolve) => edge.server.close(resolve));
  const socket = net.connect(edge.proxy.port, "127.0.0.1");
  assert.match(await endOf(socket), /ECONNRESET|closed/);
  edge.server.listen(target, "127.0.0.1");
  await once(edge.server, "listening");
  const again = await connect(edge.proxy.port);
  assert.equal((await echo(again, "after")).text, "after");
  again.destroy();
});

test("disposing ends everything in any state, twice", async () => {
  for (const fault of ["none", "hang", "cut", "reset", "latency"]) {
    const edge = await startEcho();
    const socket = await connect(edge.proxy.port);
    await echo(socket, "before");
    const end = endOf(socket);
    if (fault === "hang") edge.proxy.hang();
    if (fault === "cut") edge.proxy.cut();
    if (fault === "reset") edge.proxy.reset();
    if (fault === "latency") edge.proxy.latency(3_600_000);
    if (!socket.destroyed) socket.write("held");
    await edge.proxy[Symbol.asyncDispose]();
    await edge.proxy[Symbol.asyncDispose]();
    await end;
    assert.equal(edge.proxy.connectionCount(), 0);
    await assert.rejects(connect(edge.proxy.port), isRefused);
    await assert.rejects(edge.proxy.heal(), /disposed/);
    await edge[Symbol.asyncDispose]();
  }
});
