/** The certificates of the development folder: usable as they are, kept while they are good, and private. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { promisify } from "node:util";
import { systemClock } from "../clock.ts";
import { ExitCode } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import { runCommand, runHere } from "../testing/command.ts";
import { callHttp2, openHttp2, startListener } from "../testing/listener.ts";
import { DEVELOPMENT_HOSTS, makeDevelopmentCertificates } from "./certificates.ts";

const DAY_MS = 86_400_000;
const run = promisify(execFile);
const hasOpenssl = await run("openssl", ["version"]).then(
  () => true,
  () => false,
);

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-certs-"));
  t.after(() => rm(folder, { recursive: true }));
  return join(folder, "tls");
}

test("a listener and a client agree on them, for every name of this machine", async (t) => {
  const made = await makeDevelopmentCertificates(await folderFor(t), DEVELOPMENT_HOSTS, createTestClock());
  assert.equal(made.isNew, true);
  const ca = await readFile(made.authorityPath, "utf8");
  for (const host of ["127.0.0.1", "::1", "localhost"]) {
    await using listener = await startListener({ host, tls: made });
    using session = await openHttp2(listener.url, { ca });
    assert.equal((await callHttp2(session, host)).body, `2.0 POST ${host}`);
  }
});

test("the authority certifies servers only, and only directly; keys are the owner's", async (t) => {
  const { certificatePath, keyPath, authorityPath } = await makeDevelopmentCertificates(
    await folderFor(t),
    DEVELOPMENT_HOSTS,
    createTestClock(),
  );
  const [authority, server] = await Promise.all(
    [authorityPath, certificatePath].map(async (path) => new X509Certificate(await readFile(path))),
  );
  assert.deepEqual([authority!.ca, server!.ca], [true, false]);
  assert.ok(server!.checkIssued(authority!) && server!.verify(authority!.publicKey));
  assert.deepEqual(server!.keyUsage, ["1.3.6.1.5.5.7.3.1"]);
  assert.equal(server!.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
  for (const path of [keyPath, authorityPath.replace(/crt$/, "key")]) {
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  }
});

test("OpenSSL finds nothing wrong with them", { skip: !hasOpenssl && "there is no openssl" }, async (t) => {
  const hosts = [...DEVELOPMENT_HOSTS, "2001:db8::ff:1", "*.example.test"];
  const { certificatePath, authorityPath } = await makeDevelopmentCertificates(await folderFor(t), hosts, systemClock);
  const check = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authorityPath];
  for (const asked of [
    ["-verify_ip", "::1"],
    ["-verify_ip", "2001:db8::ff:1"],
    ["-verify_hostname", "a.example.test"],
  ]) {
    assert.match((await run("openssl", [...check, ...asked, certificatePath])).stdout, /: OK\n$/);
  }
  await run("openssl", ["verify", "-x509_strict", "-CAfile", authorityPath, authorityPath]);
});

test("they are kept until a week before they expire, or until a host is missing, or a file is damaged", async (t) => {
  const folder = await folderFor(t);
  const clock = createTestClock();
  const make = (hosts: readonly string[] = DEVELOPMENT_HOSTS) => makeDevelopmentCertificates(folder, hosts, clock);
  const { certificatePath, authorityPath } = await make();
  const authority = await readFile(authorityPath);
  assert.equal((await make()).isNew, false);
  assert.equal((await make([...DEVELOPMENT_HOSTS, "api.example.test", "192.0.2.1"])).isNew, true);
  assert.equal((await make()).isNew, false, "more than what is asked for is enough");
  await truncate(certificatePath, 10);
  assert.equal((await make()).isNew, true);
  assert.deepEqual(await readFile(authorityPath), authority, "whoever trusts it need not be told again");
  clock.advance(82 * DAY_MS);
  assert.equal((await make()).isNew, false);
  clock.advance(2 * DAY_MS);
  assert.equal((await make()).isNew, true);
  assert.notDeepEqual(await readFile(authorityPath), authority);
});

test("`concierge certs` makes them, and prints the variables that use them", async (t) => {
  const folder = await folderFor(t);
  const { code, stdout } = await runHere(["certs", "--tls", folder, "--host", "api.example.test"]);
  assert.equal(code, 0);
  const variables = Array.from(stdout.matchAll(/^export (\w+)=(.+)$/gm), ([, name, path]) => [name, path]);
  assert.deepEqual(variables, [
    ["CONCIERGE_TLS_CERTIFICATE_PATH", join(folder, "server.crt")],
    ["CONCIERGE_TLS_KEY_PATH", join(folder, "server.key")],
    ["CONCIERGE_PEER_CA_PATH", join(folder, "authority.crt")],
  ]);
  assert.ok(new X509Certificate(await readFile(join(folder, "server.crt"))).checkHost("api.example.test"));
  assert.match((await runHere(["certs", "--tls", folder])).stdout, /^nothing was missing/);
  const wrong = await runHere(["certs", "--tls", folder, "--host", "no host"]);
  assert.equal(wrong.code, 64);
  assert.match(wrong.stderr, /"no host" is neither a DNS name nor an address/);
});

test("an installation without the development dependencies says so; it still takes what was made", async (t) => {
  const folder = await folderFor(t);
  const hook = `import { registerHooks } from "node:module";
    const hidden = ["@peculiar/x509", "reflect-metadata"];
    const resolve = (name, context, next) => next(hidden.includes(name) ? name + "-not-installed" : name, context);
    registerHooks({ resolve });`;
  const without = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hook)}` };
  const { code, stdout, stderr } = await runCommand(["certs", "--tls", folder], without);
  assert.deepEqual({ code, stdout }, { code: ExitCode.unavailable, stdout: "" });
  assert.match(stderr, /^concierge: certificates are made with the development dependencies.*`npm ci`\n$/);
  await runHere(["certs", "--tls", folder]);
  assert.match((await runCommand(["certs", "--tls", folder], without)).stdout, /^nothing was missing/);
});
