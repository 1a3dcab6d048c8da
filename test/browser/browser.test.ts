/**
 * Real pages in a real browser against the whole system: two origins, of which one is allowed. Needs Chromium, whose path is
 * in CONCIERGE_TEST_CHROMIUM; `make test/browser` installs it where it is missing.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { reasonOf } from "../../src/errors.ts";
import { createTestCertificates } from "../../src/testing/certificates.ts";
import { startTestSystem, type TestSystem } from "../../src/testing/system.ts";
import { until } from "../../src/testing/until.ts";
import { type OpenPage, openChromium, servePage } from "./chromium.ts";
import type { Outcome, Via } from "./page.ts";

const PROTOCOLS = ["connect", "grpc-web"] as const;
const REQUEST_ID = /^[0-9a-f-]{36}$/;

/** What a call gave, or a failure that shows the page's side of it. */
function ok<T>({ value, failure }: Outcome<T>, page: OpenPage): T {
  assert.equal(failure, undefined, `${JSON.stringify(failure)}\nconsole of the page:\n${page.console.join("\n")}`);
  return value as T;
}

/** Files of a certificate for 127.0.0.1, and the variables that name them. */
async function writeCertificate(): Promise<AsyncDisposable & { variables: Record<string, string> }> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-certificate-"));
  const { ca, good } = await createTestCertificates();
  const write = async (name: string, pem: string) => {
    const path = join(folder, name);
    await writeFile(path, pem, { mode: 0o600 });
    return path;
  };
  return {
    variables: {
      CONCIERGE_TLS_CERTIFICATE_PATH: await write("server.crt", good.certificate),
      CONCIERGE_TLS_KEY_PATH: await write("server.key", good.key),
      CONCIERGE_PEER_CA_PATH: await write("authority.crt", ca),
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

describe("in a browser", { timeout: 120_000 }, () => {
  const opened = new AsyncDisposableStack();
  let system: TestSystem;
  let page: OpenPage;
  let forbiddenPage: OpenPage;

  before(async () => {
    const [allowed, forbidden] = [opened.use(await servePage()), opened.use(await servePage())];
    system = opened.use(await startTestSystem({ variables: { CONCIERGE_ALLOWED_ORIGINS: allowed.origin } }));
    const browser = opened.use(await openChromium(process.env.CONCIERGE_TEST_CHROMIUM || "/usr/bin/chromium"));
    page = await browser.openPage(allowed.origin);
    forbiddenPage = await browser.openPage(forbidden.origin);
  });

  after(() => opened.disposeAsync());

  for (const protocol of PROTOCOLS) {
    const person = () => ({ email: `${crypto.randomUUID()}@example.com`, password: `pass-${crypto.randomUUID()}` });
    const viaOf = async (): Promise<Via> => {
      const via = { protocol, baseUrl: system.publicUrl };
      return { ...via, ...ok(await page.run("signUp", via, person()), page) };
    };

    test(`a page registers somebody, logs in and is greeted (${protocol})`, async () => {
      const { message, requestId } = ok(await page.run("greet", await viaOf(), "Zoë"), page);
      assert.equal(message, "Hello, Zoë!");
      assert.match(String(requestId), REQUEST_ID);
      const line = await until("the log line", () => system.logLines.find((found) => found.requestId === requestId));
      assert.equal(line.protocol, protocol);
    });

    test(`a page reads a stream (${protocol})`, async () => {
      const messages = ok(await page.run("greetAgain", await viaOf(), "Ann", 3), page);
      assert.deepEqual(messages, ["Hello, Ann!", "Hello, Ann!", "Hello, Ann!"]);
    });

    test(`a page reads a stream as it comes, and may leave it (${protocol})`, async () => {
      assert.equal(ok(await page.run("greetOnce", await viaOf(), "Ann"), page), "Hello, Ann!");
      const procedure = "/concierge.greeter.v1.GreeterService/SayHelloStream";
      const isLeft = (line: Record<string, unknown>) => line.procedure === procedure && line.code === "Canceled";
      await until("the log line", () => system.logLines.some((line) => isLeft(line) && line.protocol === protocol));
    });

    test(`a page reads why a call failed, its details included (${protocol})`, async () => {
      const via = await viaOf();
      const stranger: Via = { protocol, baseUrl: system.publicUrl };
      const elsewhere = { ...via, baseUrl: `${system.publicUrl}/nowhere` };
      for (const [reason, code, { failure }] of [
        ["UNAUTHENTICATED", "Unauthenticated", await page.run("greet", stranger, "Ann")],
        ["UNAUTHENTICATED", "Unauthenticated", await page.run("greetAgain", stranger, "Ann", 3)],
        ["INVALID_REQUEST", "InvalidArgument", await page.run("greet", via, "")],
        ["UNIMPLEMENTED", "Unimplemented", await page.run("greet", elsewhere, "Ann")],
      ] as const) {
        assert.deepEqual([failure?.reason, failure?.code], [reason, code], page.console.at(-1));
        assert.match(String(failure?.requestId), REQUEST_ID, reason);
      }
    });

    test(`S-WEB-01 a page of another origin cannot even send a call (${protocol})`, async () => {
      const somebody = person();
      const { value, failure } = await forbiddenPage.run("signUp", { protocol, baseUrl: system.publicUrl }, somebody);
      assert.deepEqual([value, failure?.reason, failure?.requestId], [undefined, undefined, null]);
      assert.equal(failure?.message, "Failed to fetch");
      await until("the browser's reason", () => forbiddenPage.console.some((text) => text.includes("CORS policy")));
      await assert.rejects(
        system.asUser(AuthService).login(somebody),
        (error) => reasonOf(error) === "BAD_CREDENTIALS",
      );
    });
  }

  test("a page sends what has no side effects as GET", async () => {
    const via = { protocol: "connect", baseUrl: system.publicUrl } as const;
    const { accessToken } = await system.newUser();
    const { message } = ok(await page.run("greet", { ...via, accessToken, useHttpGet: true }, "Ann"), page);
    assert.equal(message, "Hello, Ann!");
  });

  test("a page calls over TLS and HTTP/2, over both protocols", async () => {
    await using files = await writeCertificate();
    await using encrypted = await system.startReplica(files.variables);
    await encrypted.ready;
    const { accessToken } = await system.newUser();
    for (const protocol of PROTOCOLS) {
      const via = { protocol, baseUrl: encrypted.publicUrl, accessToken };
      assert.equal(ok(await page.run("greet", via, "Ann"), page).message, "Hello, Ann!");
      assert.equal(ok(await page.run("greetAgain", via, "Ann", 3), page).length, 3);
      const { failure } = await page.run("greet", { ...via, accessToken: undefined }, "Ann");
      assert.equal(failure?.reason, "UNAUTHENTICATED");
    }
    const answers = page.answers.filter(({ url }) => url.startsWith(encrypted.publicUrl));
    assert.ok(answers.length >= 6 && encrypted.publicUrl.startsWith("https:"));
    assert.deepEqual(new Set(answers.map(({ protocol }) => protocol)), new Set(["h2"]));
  });

  test("S-WEB-01 the published keys are read by the allowed page only", async () => {
    const url = `${system.publicUrl}/.well-known/jwks.json`;
    const { status, body } = ok(await page.run("download", url), page);
    assert.equal(status, 200);
    assert.ok(JSON.parse(body).keys.length > 0);
    assert.equal((await forbiddenPage.run("download", url)).failure?.message, "Failed to fetch");
  });
});
