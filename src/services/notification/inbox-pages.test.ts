/** The live inbox's page as a browser gets it; what it does there is in test/browser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startTestService } from "../../testing/system.ts";
import { INBOX_PATH } from "./inbox-pages.ts";
import { notification } from "./service.ts";

test("the live inbox runs its own script only, is put into no frame, and is there in development only", async () => {
  await using system = await startTestService(notification);
  const response = await fetch(`${system.publicUrl}${INBOX_PATH}`);
  assert.deepEqual([response.status, response.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
  const html = await response.text();
  assert.doesNotMatch(html, /<script(?! src="\/dev\/inbox\.js")|<style| on\w+=/i);
  const policy = response.headers.get("content-security-policy") ?? "";
  assert.match(policy, /^default-src 'none'; script-src 'self'; .*frame-ancestors 'none'$/);
  assert.doesNotMatch(policy, /unsafe/);
  const script = await fetch(`${system.publicUrl}${INBOX_PATH}.js`);
  assert.match(script.headers.get("content-type") ?? "", /^text\/javascript/);
  assert.doesNotMatch(await script.text(), /innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b/);

  await using demo = await system.startReplica({ CONCIERGE_MODE: "demo" });
  for (const path of [INBOX_PATH, `${INBOX_PATH}.js`]) {
    const refused = await fetch(`${demo.publicUrl}${path}`);
    assert.equal(refused.status, 404);
    await refused.body?.cancel();
  }
});
