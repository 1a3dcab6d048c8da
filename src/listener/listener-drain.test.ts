/** How a listener ends: what it waits for, what it cuts, and that nothing of it is left. */
import assert from "node:assert/strict";
import { createHook } from "node:async_hooks";
import { EventEmitter, once } from "node:events";
import http from "node:http";
import type http2 from "node:http2";
import net from "node:net";
import { test } from "node:test";
import { echo, openHttp2, opening, startListener } from "../testing/listener.ts";
import { callHttp2, rawSocket, textOf } from "../testing/listener-sockets.ts";

const graceNobodyWaitsForMs = 3_600_000;

test("a peer that does not close its side after our goodbye is cut after the linger time", async () => {
  await using listener = await startListener({ limits: { lingerTimeoutMs: 50 } });
  const socket = net.connect({ port: listener.port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  const settings = once(socket, "data");
  socket.write(opening);
  await settings;
  await listener.drain(graceNobodyWaitsForMs);
  assert.equal(listener.connectionCount(), 0);
  socket.destroy();
});

test("R-DEP-04 a drain ends at once when every connection is idle or has not said anything", async () => {
  await using listener = await startListener();
  const agent = new http.Agent({ keepAlive: true });
  const [answer] = await once(http.get(listener.url, { agent }), "response");
  await textOf(answer);
  const session = await openHttp2(listener.url);
  assert.equal(await callHttp2(session, "x"), "2.0 POST x");
  const silent = await rawSocket(listener.port);
  const goodbyes = Promise.all([once(session, "goaway"), once(silent, "close")]);
  await listener.drain(graceNobodyWaitsForMs);
  await goodbyes;
  await assert.rejects(fetch(listener.url));
  agent.destroy();
});

test("a drain waits for the calls in flight, on both protocols, and ends with the last", async () => {
  const handled = new EventEmitter();
  const responses: (http.ServerResponse | http2.Http2ServerResponse)[] = [];
  const listener = await startListener({
    handler: (_request, response) => {
      if (responses.push(response) === 3) handled.emit("all");
    },
  });
  const all = once(handled, "all");
  const agent = new http.Agent({ keepAlive: true });
  const session = await openHttp2(listener.url);
  const overHttp2 = callHttp2(session, "");
  const overHttp1 = once(http.get(listener.url, { agent }), "response");
  const begun = once(http.get(listener.url, { agent }), "response");
  await all;
  const [headersSent, ...others] = responses.sort((one) => (one.req.httpVersion === "1.1" ? -1 : 1));
  (headersSent as http.ServerResponse).write("a part ");
  const first = await Promise.race([overHttp1, begun]);

  let drained = false;
  const drain = listener.drain(graceNobodyWaitsForMs).then(() => {
    drained = true;
  });
  await once(session, "goaway");
  assert.equal(drained, false);
  for (const response of others) response.end("done");
  assert.equal(await overHttp2, "done");
  assert.equal(drained, false);
  headersSent!.end("and the rest");
  assert.equal(await textOf(first[0]), "a part and the rest");
  const [[one], [two]] = await Promise.all([overHttp1, begun]);
  const later = one === first[0] ? two : one;
  assert.equal(later.headers.connection, "close");
  later.resume();
  await drain;
  agent.destroy();
});

test("a request that was being sent when the drain began is answered, and told that it was the last", async () => {
  const listener = await startListener();
  const socket = await rawSocket(listener.port);
  const answers = new EventEmitter();
  const first = once(answers, "first");
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk;
    answers.emit("first");
  });
  const end = once(socket, "close");
  socket.write("GET /one HTTP/1.1\r\nHost: x\r\n\r\nGET /two HTTP/1.1\r\nHost: x\r\n");
  await first;
  const drain = listener.drain(graceNobodyWaitsForMs);
  text = "";
  socket.write("\r\n");
  await Promise.all([end, drain]);
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n[\s\S]*^Connection: close\r\n/m);
});

test("at the end of its grace a drain cuts what is left; a second drain may shorten the grace", async () => {
  for (const graces of [[50], [graceNobodyWaitsForMs, 0]]) {
    const handled = new EventEmitter();
    const listener = await startListener({ handler: (request) => handled.emit("call", request) });
    const session = await openHttp2(listener.url);
    const call = once(handled, "call");
    const cut = callHttp2(session, "").catch((error) => error.code);
    const [request] = await call;
    const aborted = once(request, "aborted");
    await Promise.all(graces.map((graceMs) => listener.drain(graceMs)));
    await aborted;
    assert.match(String(await cut), /ERR_HTTP2|ECONNRESET|^$/);
    assert.equal(listener.connectionCount(), 0);
    await listener.drain(graceNobodyWaitsForMs);
    await listener[Symbol.asyncDispose]();
  }
});

test("a hundred connections and a drain leave no socket and no timer behind", async () => {
  // Handles made from here on, so that what other tests leave to close does not count.
  const open = new Set<number>();
  const watched = ["Timeout", "TCPWRAP", "TCPSERVERWRAP"];
  const hook = createHook({
    init: (id, type) => watched.includes(type) && open.add(id),
    destroy: (id) => open.delete(id),
  }).enable();
  const listener = await startListener({
    handler: (request, response, peer) => {
      response.sendDate = false; // node keeps a timer of its own for the date
      echo(request, response, peer);
    },
  });
  for (let round = 0; round < 50; round++) {
    const session = await openHttp2(listener.url);
    assert.equal(await callHttp2(session, "x"), "2.0 POST x");
    const closed = once(session, "close");
    session.close();
    await closed;
    const [answer] = await once(http.get(listener.url, { agent: false }), "response");
    await textOf(answer);
  }
  await listener.drain(graceNobodyWaitsForMs);
  // Node forgets a closed handle a few turns of the loop later. No timer waits for that: it would be counted.
  const giveUpAt = performance.now() + 10_000;
  while (open.size > 0 && performance.now() < giveUpAt) await new Promise((resolve) => setImmediate(resolve));
  hook.disable();
  assert.equal(open.size, 0);
});
