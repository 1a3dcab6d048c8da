/** What createAuthClient() and authorize() are given: whatever cannot be right is said at once, and nothing is begun with it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createServiceKey } from "../token/key-making.ts";
import { type AuthClientOptions, createAuthClient } from "./auth-client.ts";
import type { ServiceUrls } from "./connections.ts";

const SECURE = "https://127.0.0.1:1";
const keys = ["auth", "access", "organization"].map((callee) => createServiceKey("backend", callee, "backend"));

function create(options: Pick<AuthClientOptions, "url" | "rest">) {
  return createAuthClient({ ...options, keys: { keys }, issuer: "test" });
}

test("S-H2-14 wrong options are refused before anybody is asked, among them REST in the clear beside TLS", async () => {
  const asked: string[] = [];
  await using server = createServer((request, response) => void response.end(String(asked.push(request.url!))));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  for (const wrong of [
    { url, rest: { url: "nowhere" } },
    { url: { auth: url } as unknown as ServiceUrls },
    { url: SECURE, rest: { url } },
    { url: { auth: SECURE, access: url, organization: url }, rest: { url } },
  ]) {
    assert.throws(() => create(wrong), TypeError);
  }
  // Whatever had been asked before this has arrived before it.
  await (await fetch(`${url}/last`)).text();
  assert.deepEqual(asked, ["/last"]);
});

test("a permission that is named and is none lets nobody in, and neither does a branch without a permission", async () => {
  await using client = create({ url: SECURE });
  for (const wrong of [{ permission: undefined }, { permission: "" }, { branchId: crypto.randomUUID() }]) {
    await assert.rejects(client.authorize("x", wrong), TypeError);
  }
});
