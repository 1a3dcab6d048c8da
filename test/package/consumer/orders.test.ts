/** What a team's test looks like that uses concierge/testing; it is copied to where the package is installed. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createAuthClient } from "concierge/client";
import { startConcierge } from "concierge/testing";

const before = performance.now();
const concierge = await startConcierge();
const startMs = Math.round(performance.now() - before);
after(() => concierge.stop());

test("only those who may read orders do", async (t) => {
  t.diagnostic(`started in ${startMs} ms`);
  const { internalUrl: url, keys, issuer } = concierge;
  await using auth = createAuthClient({ url, keys, issuer });
  const organization = await concierge.newOrganization();
  const reader = await concierge.newMember(organization, { permissions: ["orders:read"] });
  const stranger = await concierge.newMember(organization);
  const { userId } = await auth.authorize(reader.accessToken, { permission: "orders:read" });
  assert.equal(userId, reader.userId);
  await assert.rejects(auth.authorize(stranger.accessToken, { permission: "orders:read" }), /permission/i);
});
