/** TLS of a listener: what is refused, what both protocols get, and how a certificate is changed under it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import tls from "node:tls";
import { StartupError } from "../errors.ts";
import { createTestCertificates, type TestCertificates } from "../testing/certificates.ts";
import { createTestClock } from "../testing/clock.ts";
import { FrameType, http2Frame, PREFACE } from "../testing/http2-frames.ts";
import { callHttp2, openHttp2, opening, openRaw, postFrame, readRaw, startListener } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import type { ListenOptions } from "./listener.ts";

describe("TLS", () => {
  let folder: string;
  let certificates: TestCertificates;
  const path = (name: string) => join(folder, name);
  const start = (options: Partial<ListenOptions> = {}) =>
    startListener({ tls: { certificatePath: path("good.crt"), keyPath: path("good.key") }, ...options });
  const connect = async (port: number, options: tls.ConnectionOptions = {}) => {
    const socket = tls.connect({ port, host: "127.0.0.1", ca: certificates.ca, ...options });
    await once(socket, "secureConnect");
    return socket;
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-tls-"));
    certificates = await createTestCertificates();
    for (const name of ["good", "renewed"] as const) {
      await writeFile(path(`${name}.crt`), certificates[name].certificate);
      await writeFile(path(`${name}.key`), certificates[name].key);
    }
    await writeFile(path("nonsense"), "nonsense");
  });
  after(() => rm(folder, { recursive: true }));

  test("HTTP/2 and HTTP/1.1 by ALPN; a client that names none speaks HTTP/1.1; the handler knows", async () => {
    const encrypted: boolean[] = [];
    await using listener = await start({
      handler(request, response, { isEncrypted }) {
        encrypted.push(isEncrypted);
        response.end(request.httpVersion);
      },
    });
    assert.equal(listener.url, `https://127.0.0.1:${listener.port}`);
    using session = await openHttp2(listener.url, { ca: certificates.ca });
    assert.equal((await callHttp2(session)).body, "2.0");
    for (const ALPNProtocols of [undefined, ["http/1.1"], ["http/1.1", "h2c"]]) {
      using peer = read(await connect(listener.port, { ALPNProtocols }));
      peer.socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      await peer.closed();
      assert.match(peer.text(), /^HTTP\/1\.1 200 [\s\S]*1\.1$/);
    }
    assert.deepEqual(encrypted, [true, true, true, true]);
    await assert.rejects(connect(listener.port, { ALPNProtocols: ["smtp"] }), /no application protocol/);
  });

  test("cleartext is served beside it, unless it is to be refused", async () => {
    const handled: boolean[] = [];
    const handler: ListenOptions["handler"] = (_, response, { isEncrypted }) => {
      handled.push(isEncrypted);
      response.end("served");
    };
    const get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (const [cleartext, answer] of [
      ["accept", /^HTTP\/1\.1 200 [\s\S]*served/],
      ["refuse", /^HTTP\/1\.1 400 [\s\S]*TLS required\n$/],
    ] as const) {
      await using listener = await start({ handler, cleartext });
      using one = await openRaw(listener.port);
      one.socket.write(get);
      await one.closed();
      assert.match(one.text(), answer);
      using two = await openRaw(listener.port);
      two.socket.write(Buffer.concat([opening, postFrame(1)]));
      if (cleartext === "accept") await two.frame(FrameType.data, 1);
      else {
        await two.closed();
        assert.equal(two.text(), "");
      }
    }
    assert.deepEqual(handled, [false, false]);
  });

  test("S-H2-14 old versions and weak ciphers are refused", async () => {
    await using listener = await start();
    const weak = { minVersion: "TLSv1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
    for (const maxVersion of ["TLSv1", "TLSv1.1"] as const) {
      await assert.rejects(connect(listener.port, { ...weak, maxVersion }), /alert|version|protocol/i);
    }
    for (const cipher of ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256"]) {
      const ciphers = `${cipher}:@SECLEVEL=0`;
      await assert.rejects(connect(listener.port, { maxVersion: "TLSv1.2", ciphers }), /handshake failure/, cipher);
    }
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const socket = await connect(listener.port, { maxVersion });
      assert.equal(socket.getProtocol(), maxVersion);
      assert.match(socket.getCipher().name, /GCM|CHACHA20/);
      socket.destroy();
    }
  });

  test("the limits hold over TLS: handshakes have an end, headers, streams, unread answers, connections", async () => {
    const clock = createTestClock();
    const limits = { lingerTimeoutMs: 100, maxHeaderBytes: 2_000, maxConcurrentStreams: 5, connectionsPerAddress: 4 };
    await using listener = await start({ clock, limits, handler: (_, response) => response.end("x".repeat(1_000)) });
    const half = await openRaw(listener.port);
    half.socket.write(Buffer.from([0x16, 3, 1, 0, 200, 1]));
    await until("half a handshake", () => listener.connectionCount() === 1);
    clock.advance(10_000);
    await half.closed();
    using peer = read(await connect(listener.port, { ALPNProtocols: ["h2"] }));
    const window = http2Frame(FrameType.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
    peer.socket.write(Buffer.concat([PREFACE, window, ...[1, 3, 5, 7, 9, 11].map((id) => postFrame(id))]));
    assert.equal((await peer.frame(FrameType.resetStream)).streamId, 11);
    await peer.frame(FrameType.headers, 9);
    const others = await Promise.all([1, 2, 3].map(() => connect(listener.port)));
    await assert.rejects(connect(listener.port));
    others[0]!.write(`GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${"v".repeat(2_500)}\r\n\r\n`);
    assert.match(String((await once(others[0]!, "data"))[0]), /^HTTP\/1\.1 431 /);
    await new Promise((resolve) => setTimeout(resolve, 30));
    clock.advance(31_000);
    const reset = await peer.frame(FrameType.resetStream, 1);
    assert.equal(reset.payload.readUInt32BE(), http2.constants.NGHTTP2_CANCEL);
    for (const socket of others) socket.destroy();
  });

  test("R-DEP-04 a drain over TLS: idle clients go at once, calls in flight end", async () => {
    const responses: (() => void)[] = [];
    await using listener = await start({ handler: (_, response) => responses.push(() => response.end("done")) });
    const idle = await openHttp2(listener.url, { ca: certificates.ca });
    const busy = await openHttp2(listener.url, { ca: certificates.ca });
    const silent = await openRaw(listener.port);
    silent.socket.write(Buffer.from([0x16, 3, 1]));
    const unused = read(await connect(listener.port));
    const answer = callHttp2(busy);
    await until("the call", () => responses.length === 1);
    const goodbyes = Promise.all([once(idle, "goaway"), once(busy, "goaway"), silent.closed(), unused.closed()]);
    const drained = listener.drain(3_600_000);
    await goodbyes;
    await until("only one left", () => listener.connectionCount() === 1);
    responses[0]!();
    assert.equal((await answer).body, "done");
    await drained;
  });

  test("a certificate that changes is taken up, also through a link; a broken pair is told once, and the old one stays", async () => {
    const clock = createTestClock();
    const problems: string[] = [];
    await replaceLink("live", "good");
    await using listener = await start({
      clock,
      limits: { lingerTimeoutMs: 100 },
      tls: { certificatePath: path("live.crt"), keyPath: path("live.key") },
      onCertificateProblem: (error) => problems.push(error.message),
    });
    const old = await openHttp2(listener.url, { ca: certificates.ca });
    const presented = async () => {
      const socket = await connect(listener.port);
      const { raw } = socket.getPeerX509Certificate()!;
      socket.destroy();
      return [certificates.good, certificates.renewed].findIndex(({ certificate }) =>
        raw.equals(Buffer.from(certificate.split("\n").slice(1, -2).join(""), "base64")),
      );
    };
    assert.equal(await presented(), 0);
    await replaceLink("live", "nonsense", [""]);
    clock.advance(5_000);
    await until("the problem", () => problems.length === 1);
    assert.match(problems[0]!, /live\.crt holds no certificate in PEM$/);
    clock.advance(5_000);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(problems.length, 1);
    assert.equal(await presented(), 0);
    await replaceLink("live", "renewed");
    clock.advance(5_000);
    await until("the new certificate", async () => (await presented()) === 1);
    await rm(path("live.key"));
    clock.advance(5_000);
    await until("the next problem", () => problems.length === 2);
    assert.match(problems[1]!, /the key .*live\.key cannot be read: ENOENT$/);
    assert.equal((await callHttp2(old, "old")).body, "2.0 POST old", "connections of before go on");
    old.destroy();
  });

  const refusals: [what: string, paths: ListenOptions["tls"], says: RegExp][] = [
    ["no key", { certificatePath: "good.crt" }, /a certificate is set \(.*good\.crt\), but no key/],
    ["no certificate", { keyPath: "good.key" }, /a key is set \(.*good\.key\), but no certificate/],
    [
      "a missing certificate",
      { certificatePath: "no.crt", keyPath: "good.key" },
      /certificate .*no\.crt cannot.*ENOENT/,
    ],
    ["a missing key", { certificatePath: "good.crt", keyPath: "no.key" }, /the key .*no\.key cannot be read: ENOENT/],
    ["nonsense", { certificatePath: "nonsense", keyPath: "good.key" }, /nonsense holds no certificate in PEM/],
    ["a key that is none", { certificatePath: "good.crt", keyPath: "nonsense" }, /nonsense holds no private key/],
    [
      "another's key",
      { certificatePath: "good.crt", keyPath: "renewed.key" },
      /renewed\.key and .* do not work together/,
    ],
  ];
  for (const [what, { certificatePath, keyPath } = {}, says] of refusals) {
    test(`${what} stops the start, exit code 78, with the path`, async () => {
      const absolute = { certificatePath: certificatePath && path(certificatePath), keyPath: keyPath && path(keyPath) };
      await assert.rejects(start({ tls: absolute }), (error) => {
        assert.ok(error instanceof StartupError);
        assert.equal(error.exitCode, 78);
        assert.match(error.message, says);
        assert.doesNotMatch(error.message, /BEGIN/);
        return true;
      });
    });
  }

  /** As Kubernetes does: the name stays, what it leads to changes at once. */
  async function replaceLink(name: string, target: string, endings = [".crt", ".key"]): Promise<void> {
    for (const ending of [".crt", ".key"]) {
      await symlink(path(endings.length === 1 ? target : `${target}${ending}`), path("next"));
      await rename(path("next"), path(`${name}${ending}`));
    }
  }
});

function read(socket: tls.TLSSocket) {
  socket.on("error", () => {});
  return readRaw(socket, new Promise<void>((resolve) => socket.once("close", () => resolve())));
}
