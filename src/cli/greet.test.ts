/** `concierge greet` against servers that are not as they should be; dev.test.ts has it against the real system. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http2, { type Http2Server, type SecureServerOptions } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode } from "../errors.ts";
import { greeterHandlers } from "../services/greeter/handlers.ts";
import { createTestCertificates } from "../testing/certificates.ts";
import { freePort, runHere } from "../testing/command.ts";
import { signAccessToken } from "../token/access-token.ts";
import { readSigningKeys, writeSecret } from "../token/key-folder.ts";
import { createSigner } from "../token/signing-keys.ts";

interface ServerOptions {
  /** Methods that it has in place of the right ones. */
  wrong?: Partial<ServiceImpl<typeof GreeterService>>;
  tls?: SecureServerOptions;
  /** What Login answers. */
  accessToken?: string;
}

/** greeter, open to everybody, and a login. */
async function serve(t: TestContext, { wrong, tls, accessToken = "" }: ServerOptions): Promise<URL> {
  const right = greeterHandlers()[0]!.implementation as ServiceImpl<typeof GreeterService>;
  const handler = connectNodeAdapter({
    routes(router) {
      router.service(GreeterService, { ...right, ...wrong });
      router.service(AuthService, { login: () => ({ accessToken }) });
    },
  });
  const server: Http2Server = tls ? http2.createSecureServer(tls, handler) : http2.createServer(handler);
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  return new URL(`${tls ? "https" : "http"}://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-greet-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A development folder whose note says that the system runs at `url`, and a token that its keys have signed. */
async function prepare(t: TestContext) {
  const folder = await folderFor(t);
  await runHere(["keys", "init", "--keys", join(folder, "keys")]);
  const issuer = "http://127.0.0.1";
  const ids = { userId: crypto.randomUUID(), sessionId: crypto.randomUUID(), generation: 1 };
  const seconds = Math.floor(systemClock.now() / 1000);
  const signer = createSigner(await readSigningKeys(join(folder, "keys")));
  const claims = { ...ids, authenticatedAt: seconds, expiresAt: seconds + 600 };
  const accessToken = signAccessToken(signer, { issuer, clock: systemClock }, claims);
  const runAt = (url: URL) =>
    writeSecret(join(folder, "running.json"), { publicUrl: url.origin, demoAccount: { email: "demo@example.com" } });
  return { folder, accessToken, runAt };
}

const failed = (stdout: string) => stdout.split("\n").filter((line) => line.includes(" FAIL "));

test("a server that accepts an expired token fails `greet`, over each protocol", async (t) => {
  const { folder, accessToken, runAt } = await prepare(t);
  await runAt(await serve(t, { accessToken }));
  const { code, stdout, stderr } = await runHere(["greet", "--folder", folder]);
  assert.equal(code, ExitCode.failure);
  assert.equal(stderr, "concierge: 3 of 15 calls did not go as they should\n");
  assert.equal(failed(stdout).length, 3);
  for (const line of failed(stdout)) assert.match(line, /an expired token .* a token that has expired was accepted$/);
});

test("a server that greets otherwise fails `greet` in that pattern only", async (t) => {
  const url = await serve(t, {
    wrong: {
      async *sayHelloStream() {
        yield { message: "Hello, Ann!", number: 1 };
      },
      async *sayHelloBidirectional(people) {
        for await (const { name } of people) yield { message: `Goodbye, ${name}!` };
      },
    },
  });
  const { code, stdout } = await runHere(["greet", "--url", url.href, "--token", "any", "--protocol", "grpc"]);
  assert.equal(code, ExitCode.failure);
  assert.deepEqual(
    failed(stdout).map((line) => line.split(/ +/)[1]),
    ["SayHelloStream", "SayHelloBidirectional"],
  );
  assert.match(stdout, /the answer is "1 Hello, Ann!", and should be "1 Hello, Ann! 2 Hello, Ann! 3 Hello, Ann!"/);
});

test("a token of another system: the patterns are called, and no expired token is tried", async (t) => {
  const url = await serve(t, {});
  const { code, stdout } = await runHere(["greet", "--url", url.href, "--token", "any"]);
  assert.equal(code, ExitCode.ok);
  assert.match(stdout, /^An expired token was not tried: .*\nAll 12 calls went as they should\.\n$/m);
});

for (const [what, args] of [
  ["a URL without its scheme", ["--url", "localhost:8080"]],
  ["a URL with a path", ["--url", "http://localhost:8080/greeter"]],
  ["authorities for a URL in the clear", ["--url", "http://localhost:8080", "--ca", "ca.pem"]],
  ["a file that is not there", ["--url", "https://localhost:8080", "--ca", "/nonexistent/ca.pem"]],
  ["a protocol that there is not", ["--url", "http://localhost:8080", "--protocol", "soap"]],
] as const) {
  test(`${what}: exit 64 before anything is called`, async () => {
    const { code, stdout, stderr } = await runHere(["greet", "--token", "any", ...args]);
    assert.deepEqual({ code, stdout }, { code: ExitCode.usage, stdout: "" });
    assert.match(stderr, /^(concierge|error): /);
  });
}

test("nothing is running, or nobody answers: exit 69", async (t) => {
  const { folder, runAt } = await prepare(t);
  assert.equal((await runHere(["greet", "--folder", folder])).code, ExitCode.unavailable);
  await runAt(new URL(`http://127.0.0.1:${await freePort()}`));
  const { code, stderr } = await runHere(["greet", "--folder", folder]);
  assert.equal(code, ExitCode.unavailable);
  assert.match(stderr, /^concierge: nothing answers at /);
});

test("https: greets whose certificate the authority vouches for, and nobody else; never in the clear", async (t) => {
  const { ca, good, expired, selfSigned, wrongName } = await createTestCertificates();
  const caFile = join(await folderFor(t), "ca.pem");
  await writeFile(caFile, ca);
  const greet = async (url: URL, ...trust: string[]) => {
    const ended = await runHere(["greet", "--url", url.href, "--token", "any", ...trust]);
    return { code: ended.code, failed: failed(ended.stdout) };
  };
  const tlsOf = ({ certificate, key }: typeof good) => ({ cert: certificate, key });

  const trusted = await serve(t, { tls: tlsOf(good) });
  assert.deepEqual(await greet(trusted, "--ca", caFile), { code: ExitCode.ok, failed: [] });

  const inTheClear = await serve(t, {});
  inTheClear.protocol = "https:";
  const refused: [URL, RegExp, ...trust: string[]][] = [
    [trusted, /unable to get local issuer|unable to verify|self-signed/],
    [await serve(t, { tls: tlsOf(expired) }), /expired/, "--ca", caFile],
    [await serve(t, { tls: tlsOf(selfSigned) }), /self-signed/, "--ca", caFile],
    [await serve(t, { tls: tlsOf(wrongName) }), /does not match|altnames/, "--ca", caFile],
    [inTheClear, /FAIL/, "--ca", caFile],
  ];
  for (const [url, why, ...trust] of refused) {
    const ended = await greet(url, ...trust);
    assert.equal(ended.code, ExitCode.failure);
    assert.equal(ended.failed.length, 12);
    for (const line of ended.failed) assert.match(line, why);
  }
});
