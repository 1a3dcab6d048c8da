/**
 * Chromium, headless, and pages in it that come from origins of their own. Closing it waits until every process that it
 * started is gone, and fails if one stays; no file stays either.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Browser, chromium, type Page } from "playwright-core";
import { until } from "../../src/testing/until.ts";
import type { Actions } from "./page.ts";

/** Without the sandbox, which root cannot have; and without what a browser does by itself in the background. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-crash-reporter",
];
/** In the environment that Chromium's processes inherit. */
const MARK = "CONCIERGE_TEST_BROWSER";

/** A page, and what is needed to make sense of a failure in it. */
export interface OpenPage {
  /** For example "http://127.0.0.1:41234". */
  readonly origin: string;
  /** What the page and the browser have written to the console so far. */
  readonly console: readonly string[];
  /** The answers that the page has got so far, and how each came: "http/1.1" or "h2". */
  readonly answers: readonly { readonly url: string; readonly protocol?: string }[];
  /** For what somebody does in it: typing, clicking, reading. */
  readonly tab: Page;
  /** Runs one of the page's actions there. */
  run<Name extends keyof Actions>(name: Name, ...input: Parameters<Actions[Name]>): ReturnType<Actions[Name]>;
}

export interface OpenBrowser extends AsyncDisposable {
  /** Opens the page at this address, which may have a path: in a window that shares nothing with others, or as a tab beside one. */
  openPage(url: string, beside?: OpenPage): Promise<OpenPage>;
}

/** Starts the browser at this path. */
export async function openChromium(executablePath: string): Promise<OpenBrowser> {
  await using opened = new AsyncDisposableStack();
  const home = await mkdtemp(join(tmpdir(), "concierge-browser-"));
  opened.defer(() => rm(home, { recursive: true, force: true }));
  const mark = crypto.randomUUID();
  const env = { ...process.env, HOME: home, [MARK]: mark } as Record<string, string>;
  const browser = await chromium.launch({ executablePath, args: FLAGS, env });
  opened.defer(() => close(browser, mark));
  const resources = opened.move();
  return {
    openPage: (url, beside) => openPage(browser, url, beside),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function close(browser: Browser, mark: string): Promise<void> {
  const own = (await processes()).filter(({ marks }) => marks === mark);
  const sessions = new Set(own.map(({ session }) => session));
  await browser.close();
  await until("the end of all of Chromium's processes", async () => {
    return (await processes()).every(({ session }) => !sessions.has(session));
  });
}

async function openPage(browser: Browser, url: string, beside?: OpenPage): Promise<OpenPage> {
  // Certificates of tests are made by authorities that no browser knows.
  const window = beside?.tab.context() ?? (await browser.newContext({ ignoreHTTPSErrors: true }));
  const page: Page = await window.newPage();
  const lines: string[] = [];
  const answers: { url: string; protocol?: string }[] = [];
  page.on("console", (message) => lines.push(message.text()));
  page.on("pageerror", (error) => lines.push(String(error)));
  const network = await page.context().newCDPSession(page);
  network.on("Network.responseReceived", ({ response: { url, protocol } }) => answers.push({ url, protocol }));
  await network.send("Network.enable");
  await page.goto(url);
  return {
    origin: new URL(url).origin,
    tab: page,
    console: lines,
    answers,
    run: (name, ...input) => page.evaluate<never>(`concierge.${name}(...${JSON.stringify(input)})`) as never,
  };
}

/**
 * The session and the mark of every living process. Chromium has a session of its own, and so has its crash handler. Most
 * of its processes write over their environment, but the first of each session keeps it.
 */
async function processes(): Promise<{ session: string; marks: string | undefined }[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = ids.map(async (id) => {
    const read = (file: string) => readFile(`/proc/${id}/${file}`, "utf8").catch(() => "");
    const [status, environment] = await Promise.all([read("stat"), read("environ")]);
    // "<id> (<name>) <state> <parent> <group> <session> ..."; Z is one that has ended and whose parent has not noticed.
    const [state, , , session = ""] = status.slice(status.lastIndexOf(")") + 2).split(" ");
    const marks = environment.split("\0").find((entry) => entry.startsWith(`${MARK}=`));
    return { isAlive: state !== "Z" && state !== "", session, marks: marks?.slice(MARK.length + 1) };
  });
  return (await Promise.all(found)).filter(({ isAlive }) => isAlive);
}

/** Serves the page on a free port, and so from an origin of its own. */
export async function servePage(): Promise<AsyncDisposable & { readonly origin: string }> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
    bundle: true,
    write: false,
    platform: "browser",
    charset: "utf8",
  });
  const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script>${outputFiles[0]!.text}</script>`;
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(html);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
