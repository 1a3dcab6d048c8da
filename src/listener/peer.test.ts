/** Who a request comes from, alone and behind proxies. */
import assert from "node:assert/strict";
import { BlockList } from "node:net";
import { test } from "node:test";
import { sendHttp } from "../testing/http.ts";
import { callHttp2, openHttp2, startListener } from "../testing/listener.ts";
import type { Peer, RequestHandler } from "./listener.ts";
import { forwardedPeer } from "./peer.ts";

const proxies = new BlockList();
proxies.addSubnet("10.0.0.0", 8, "ipv4");
proxies.addSubnet("2001:db8:1::", 48, "ipv6");

const cases: [forwardedFor: string | undefined, address: string][] = [
  [undefined, "10.0.0.1"],
  ["203.0.113.7", "203.0.113.7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["2001:db8:2::7", "2001:db8:2::7"],
  ["198.51.100.1, 203.0.113.7", "203.0.113.7"],
  ["203.0.113.7,10.0.0.9 , 2001:db8:1::1", "203.0.113.7"],
  ["10.0.0.8, 10.0.0.9", "10.0.0.1"],
  ["203.0.113.7, unknown", "10.0.0.1"],
  ["203.0.113.7, 10.0.0.9, 999.1.1.1", "10.0.0.1"],
  ["203.0.113.7, ", "10.0.0.1"],
  ["", "10.0.0.1"],
  ["nonsense, 203.0.113.7", "203.0.113.7"],
];
for (const [forwardedFor, address] of cases) {
  test(`X-Forwarded-For ${JSON.stringify(forwardedFor)} of the proxy 10.0.0.1 means ${address}`, () => {
    const proxy = { address: "10.0.0.1", isEncrypted: true };
    assert.deepEqual(forwardedPeer(proxy, forwardedFor, proxies), { address, isEncrypted: true });
  });
}

function peersOf(seen: Peer[]): RequestHandler {
  return (_, response, peer) => {
    seen.push(peer);
    response.end();
  };
}

for (const host of ["127.0.0.1", "::"]) {
  test(`a handler learns the address of its client, whatever a header says (listening on ${host})`, async () => {
    const seen: Peer[] = [];
    await using listener = await startListener({ host, handler: peersOf(seen) });
    const url = `http://127.0.0.1:${listener.port}`;
    const line = ["x-forwarded-for", "203.0.113.7"] as const;
    for (const version of ["1.1", "2"] as const) {
      await sendHttp(version, url, { httpMethod: "GET", path: "/", headers: [line] });
    }
    assert.deepEqual(seen, Array(2).fill({ address: "127.0.0.1", isEncrypted: false }));
  });
}

test("a trusted proxy speaks for each of its clients, over one connection", async () => {
  const seen: Peer[] = [];
  const trustedProxies = new BlockList();
  trustedProxies.addAddress("127.0.0.1");
  await using listener = await startListener({ handler: peersOf(seen), trustedProxies });
  using session = await openHttp2(listener.url);
  for (const address of ["203.0.113.7", "203.0.113.8"]) {
    await callHttp2(session, "", { "x-forwarded-for": `198.51.100.1, ${address}` });
  }
  const line = ["x-forwarded-for", "203.0.113.9"] as const;
  await sendHttp("1.1", listener.url, { httpMethod: "GET", path: "/", headers: [line] });
  assert.deepEqual(
    seen.map(({ address }) => address),
    ["203.0.113.7", "203.0.113.8", "203.0.113.9"],
  );
});
