/**
 * A person's session in a real browser, through the SDK over gRPC-Web from another origin than the system's: what the tabs of
 * one origin do with the session that they share. Needs Chromium, as browser.test.ts does.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { startTestSystem, type TestSystem } from "../../src/testing/system.ts";
import { until } from "../../src/testing/until.ts";
import { type OpenBrowser, type OpenPage, openChromium, servePage } from "./chromium.ts";

const TOKEN_MS = 60_000;
const REFRESH = "/concierge.auth.v1.AuthService/RefreshToken";
const GREETING = "Hello, Ann!";

describe("a session in a browser", { timeout: 120_000 }, () => {
  const opened = new AsyncDisposableStack();
  let system: TestSystem;
  let browser: OpenBrowser;
  let origin: string;
  let tabs: [OpenPage, OpenPage];

  before(async () => {
    ({ origin } = opened.use(await servePage()));
    const seconds = String(TOKEN_MS / 1000);
    const variables = { CONCIERGE_ALLOWED_ORIGINS: origin, CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: seconds };
    system = opened.use(await startTestSystem({ variables }));
    browser = opened.use(await openChromium(process.env.CONCIERGE_TEST_CHROMIUM || "/usr/bin/chromium"));
  });
  after(() => opened.disposeAsync());

  beforeEach(async () => {
    const first = await browser.openPage(origin);
    tabs = [first, await browser.openPage(origin, first)];
    for (const tab of tabs) assert.equal((await tab.run("openSession", system.publicUrl)).state, "signed-out");
  });

  const person = () => ({ email: `${crypto.randomUUID()}@example.com`, password: `pass-${crypto.randomUUID()}` });

  const refreshCalls = () => system.logLines.filter(({ procedure }) => procedure === REFRESH).length;

  /** Each page's console, where a failure in it shows. */
  const consoles = () => tabs.map(({ console }) => console.join("\n")).join("\n---\n");

  test("S-REF-24 two tabs of one origin refresh at once: one family, both live, and at most one call of each", async () => {
    const [first, second] = tabs;
    const { userId } = await first.run("signIn", person());
    await until("the other tab has heard of it", async () => (await second.run("sessionView")).userId === userId);
    const { sid } = decodeJwt<{ sid: string }>(await first.run("accessToken"));
    for (const _round of [1, 2, 3]) {
      const before = refreshCalls();
      for (const tab of tabs) await tab.run("passTime", TOKEN_MS + 1);
      const answers = await Promise.all(tabs.map((tab) => tab.run("greetAsPerson", 10)));
      assert.deepEqual(new Set(answers.flat()), new Set([GREETING]), consoles());
      // A tab whose view of localStorage lags repeats the other one's use, with its key: the answer is the same.
      const calls = refreshCalls() - before;
      assert(calls >= 1 && calls <= tabs.length, `${calls} refreshes`);
      const tokens = await Promise.all(tabs.map((tab) => tab.run("accessToken")));
      assert.equal(tokens[0], tokens[1]);
      assert.equal(decodeJwt<{ sid: string }>(tokens[0]!).sid, sid);
    }
  });

  test("a page calls as a person over gRPC-Web, streams too, and after a reload", async () => {
    const [page] = tabs;
    const { userId } = await page.run("signIn", person());
    assert.deepEqual(await page.run("streamAsPerson", 2), [GREETING, GREETING]);
    await page.tab.reload();
    assert.deepEqual(await page.run("openSession", system.publicUrl), { state: "signed-in", userId });
    assert.deepEqual(await page.run("greetAsPerson", 1), [GREETING]);
    assert.deepEqual(page.console, []);
  });

  test("who logs out in one tab is signed out in the other one", async () => {
    const [first, second] = tabs;
    const { userId } = await first.run("signIn", person());
    await until("the other tab has heard of it", async () => (await second.run("sessionView")).userId === userId);
    assert.deepEqual(await second.run("logOut"), { isEnded: true });
    await until("the first one, too", async () => (await first.run("sessionView")).state === "signed-out");
    await assert.rejects(first.run("greetAsPerson", 1), /unauthenticated/);
  });
});
