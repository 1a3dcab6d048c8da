/**
 * The pages of development in a real browser: the live inbox against the whole system, and what the push stand-in shows. Needs
 * Chromium, as browser.test.ts does.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Page } from "playwright-core";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { systemClock } from "../../src/clock.ts";
import { createServiceAccount, identityOf, startPushStandIn } from "../../src/dev/push-stand-in.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../src/testing/system.ts";
import { until } from "../../src/testing/until.ts";
import { type OpenBrowser, type OpenPage, openChromium } from "./chromium.ts";

const HOSTILE = "<img src=x onerror=alert(1)><script>document.title='taken'</script>";

describe("pages of development", { timeout: 120_000 }, () => {
  const opened = new AsyncDisposableStack();
  let system: TestSystem;
  let browser: OpenBrowser;

  before(async () => {
    // The system's clock stands still, so a token is good for ever; but its streams end after so long.
    system = opened.use(await startTestSystem({ variables: { CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: "3" } }));
    browser = opened.use(await openChromium(process.env.CONCIERGE_TEST_CHROMIUM || "/usr/bin/chromium"));
  });

  after(() => opened.disposeAsync());

  const create = async (user: TestUser, text: string) => {
    const author = system.asService(NotificationInternalService, "backend", "notification");
    return (await author.createNotification({ title: "Title", text, userIds: [user.userId] })).notificationId;
  };

  const inboxOf = async ({ accessToken }: TestUser) => {
    return (await system.asUser(NotificationService, accessToken).listMyNotifications({})).notifications;
  };

  const logIn = async ({ tab }: OpenPage, { email, password }: TestUser): Promise<void> => {
    await tab.fill("[name=email]", email);
    await tab.fill("[name=password]", password);
    await tab.click("button");
  };

  const openInbox = async (user: TestUser): Promise<OpenPage> => {
    const page = await browser.openPage(`${system.publicUrl}/dev/inbox`);
    await logIn(page, user);
    await shows(page, "#state", "Live.");
    return page;
  };

  const shows = async ({ tab, console }: OpenPage, selector: string, text: string) => {
    await tab
      .locator(selector, { hasText: text })
      .first()
      .waitFor({ timeout: 10_000 })
      .catch(async (error: Error) => {
        assert.fail(`${error.message}\n${await tab.textContent("body")}\nconsole of the page:\n${console.join("\n")}`);
      });
  };

  const textsOf = (tab: Page) => tab.locator("article p").allTextContents();

  test("the live inbox shows what was there and what comes, marks it received, and read at a click", async () => {
    const user = await system.newUser();
    await create(user, "from before");
    const page = await openInbox(user);
    await shows(page, "article", "from before");
    const notificationId = await create(user, "from now");
    await shows(page, "article", "from now");
    assert.deepEqual(await textsOf(page.tab), ["from now", "from before"]);
    await until("both are received", async () => (await inboxOf(user)).every(({ receivedAt }) => receivedAt));
    await shows(page, "#unread", "2");
    await page.tab.click("article >> nth=0");
    await shows(page, "#unread", "1");
    const read = (await inboxOf(user)).filter(({ readAt }) => readAt);
    assert.deepEqual(
      read.map((notification) => notification.notificationId),
      [notificationId],
    );
    assert.deepEqual(page.console, []);
  });

  test("the live inbox goes on with a new token where the old one ends, and misses nothing", async () => {
    const user = await system.newUser();
    const page = await openInbox(user);
    const calls = (method: string) => page.answers.filter(({ url }) => url.endsWith(`/${method}`)).length;
    await until("the end of the first stream", () => calls("RefreshToken") > 0);
    await create(user, "between two streams");
    await until("another stream", () => calls("WatchMyNotifications") > 1);
    await shows(page, "article", "between two streams");
    assert.equal(calls("ListMyNotifications"), 1, "the cursor told what came in between");
  });

  test("whoever logs in just after another one's session has ended has one stream, and sees nothing of the other one", async () => {
    const [ann, bob] = [await system.newUser(), await system.newUser()];
    await create(ann, "to Ann");
    await create(bob, "to Bob");
    const page = await openInbox(ann);
    await shows(page, "article", "to Ann");
    await system.asUser(AuthService, ann.accessToken).endOtherSessions({});
    await page.tab.locator("#login").waitFor({ state: "visible" });
    const before = page.answers.length;
    await logIn(page, bob);
    await shows(page, "article", "to Bob");
    const since = () => page.answers.slice(before).map(({ url }) => url.split("/").at(-1));
    // By the end of the first stream another loop would have begun its own.
    await until("the end of the stream", () => since().includes("RefreshToken"));
    const calls = since().slice(0, since().indexOf("RefreshToken"));
    assert.deepEqual(
      calls.filter((method) => method === "WatchMyNotifications"),
      ["WatchMyNotifications"],
    );
    assert.deepEqual(await textsOf(page.tab), ["to Bob"]);
  });

  test("a notification's text is text in the live inbox, whatever it says", async () => {
    const user = await system.newUser();
    const page = await openInbox(user);
    await create(user, HOSTILE);
    await shows(page, "article", "onerror");
    assert.deepEqual(await textsOf(page.tab), [HOSTILE]);
    assert.deepEqual([await page.tab.locator("main img, main script").count(), await page.tab.title()], [0, "Inbox"]);
  });

  test("a wrong password is said, and nothing is shown", async () => {
    const user = await system.newUser();
    const page = await browser.openPage(`${system.publicUrl}/dev/inbox`);
    await page.tab.fill("[name=email]", user.email);
    await page.tab.fill("[name=password]", "wrong");
    await page.tab.click("button");
    await shows(page, "#state", "unauthenticated");
    assert.equal(await page.tab.locator("#login").isVisible(), true);
  });

  test("the push stand-in's page shows pushes by device, as text", async () => {
    const folder = await mkdtemp(join(tmpdir(), "concierge-pushes-"));
    opened.defer(() => rm(folder, { recursive: true, force: true }));
    const ledgerFile = join(folder, "pushes.jsonl");
    const message = {
      token: "my-phone",
      notification: { title: HOSTILE, body: "Hello" },
      data: { notification_id: "7" },
    };
    const entry = { time: new Date(0).toISOString(), name: "n", project: "p", token: "my-phone", message };
    await writeFile(ledgerFile, `${JSON.stringify(entry)}\n`);
    const serviceAccount = identityOf(await createServiceAccount("p"));
    await using standIn = await startPushStandIn({ ledgerFile, clock: systemClock, serviceAccount, projectId: "p" });
    const page = await browser.openPage(standIn.url);
    await shows(page, "section", "my-phone");
    assert.equal(await page.tab.locator("article h3").textContent(), HOSTILE);
    assert.equal(await page.tab.locator("article li").textContent(), "notification_id: 7");
    assert.deepEqual([await page.tab.locator("main img, main script").count(), await page.tab.title()], [0, "Pushes"]);
    assert.deepEqual(page.console, []);
  });
});
