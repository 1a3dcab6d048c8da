/** S-H2-14 on the calling side: who is believed to be the peer, and that nothing goes in the clear instead. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type tls from "node:tls";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import type { CertifiedKey } from "../dev/certify.ts";
import { Code, reasonOf } from "../errors.ts";
import { describeError } from "../log.ts";
import { createTestCertificates } from "../testing/certificates.ts";
import { startListener } from "../testing/listener.ts";
import { createServiceKey, createSigningKeys } from "../token/key-making.ts";
import { remoteKeyRing } from "../token/key-ring.ts";
import { publicKeySet } from "../token/signing-keys.ts";
import { connectService } from "./service-client.ts";

const key = createServiceKey("user", "auth", "service");
const userId = "0198c5a0-0000-7000-8000-000000000000";
const certificates = await createTestCertificates();

/** A listener with this certificate that answers every gRPC call with NOT_FOUND, and everything else with a key set. */
async function startPeer({ certificate, key: privateKey }: CertifiedKey, folder: string) {
  const paths = { certificatePath: join(folder, "peer.crt"), keyPath: join(folder, "peer.key") };
  await writeFile(paths.certificatePath, certificate);
  await writeFile(paths.keyPath, privateKey);
  const keySet = JSON.stringify(publicKeySet(await createSigningKeys("ES256")));
  return startListener({
    tls: paths,
    cleartext: "refuse",
    handler(request, response) {
      request.resume();
      if (request.method === "GET") response.end(keySet);
      else {
        response.setHeader("content-type", "application/grpc+proto");
        response.setHeader("grpc-status", "5");
        response.end();
      }
    },
  });
}

async function call(baseUrl: string, ca?: string): Promise<unknown> {
  using connection = connectService({ baseUrl, ca, key, clock: systemClock });
  return await connection
    .client(AuthInternalService)
    .getAccount({ userId }, { timeoutMs: 3_000 })
    .catch((error: unknown) => error);
}

function assertUnavailable(error: unknown, cause: RegExp): void {
  assert.equal((error as { code?: Code }).code, Code.Unavailable, String(error));
  assert.equal(reasonOf(error), "DEPENDENCY_UNAVAILABLE");
  const logged = JSON.stringify(describeError(error as Error));
  assert.match(logged, cause);
  assert.doesNotMatch(logged, /BEGIN|eyJ/);
}

describe("S-H2-14 a peer over TLS", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "concierge-peer-"));
  });
  after(() => rm(folder, { recursive: true }));

  test("one with a good certificate is called, by name and by address, and its key set is had", async () => {
    await using peer = await startPeer(certificates.good, folder);
    for (const url of [peer.url, `https://localhost:${peer.port}`]) {
      const error = await call(url, certificates.ca);
      assert.equal((error as { code?: Code }).code, Code.NotFound, String(error));
    }
    const ring = remoteKeyRing(`${peer.url}/jwks`, systemClock, certificates.ca);
    await ring.refresh();
    assert.equal(ring.generation, 1);
  });

  const bad: [what: string, certificate: CertifiedKey, ca: string | undefined, cause: RegExp][] = [
    ["expired", certificates.expired, certificates.ca, /CERT_HAS_EXPIRED/],
    ["self-signed", certificates.selfSigned, certificates.ca, /DEPTH_ZERO_SELF_SIGNED_CERT/],
    ["for another host", certificates.wrongName, certificates.ca, /ERR_TLS_CERT_ALTNAME_INVALID/],
    ["of an unknown authority", certificates.good, undefined, /UNABLE_TO_VERIFY_LEAF_SIGNATURE/],
  ];
  for (const [what, certificate, ca, cause] of bad) {
    test(`a certificate that is ${what} is refused: UNAVAILABLE, and nothing is sent`, async () => {
      await using peer = await startPeer(certificate, folder);
      assertUnavailable(await call(peer.url, ca), cause);
      const ring = remoteKeyRing(`${peer.url}/jwks`, systemClock, ca);
      await assert.rejects(ring.refresh(), (error) => cause.test(JSON.stringify(describeError(error as Error))));
      assert.equal(ring.generation, 0);
    });
  }

  test("a peer without TLS is not called in the clear instead", async (t) => {
    const received: Buffer[] = [];
    const sockets = new Set<Socket>();
    const server = net.createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        received.push(bytes);
        socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
      });
    });
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    assertUnavailable(await call(url, certificates.ca), /ERR_SSL_|EPROTO|ECONNRESET/);
    await assert.rejects(remoteKeyRing(`${url}/jwks`, systemClock, certificates.ca).refresh());
    assert.ok(received.length >= 2);
    for (const bytes of received) assert.equal(bytes[0], 0x16, "a TLS handshake, and nothing else");
  });

  test("a peer that speaks TLS 1.1 at best is refused", async (t) => {
    const { certificate: cert, key: privateKey } = certificates.good;
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
    const server = http2.createSecureServer({ cert, key: privateKey, ...old } as tls.TlsOptions);
    t.after(() => server.close());
    await once(server.listen(0, "127.0.0.1"), "listening");
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    assertUnavailable(await call(url, certificates.ca), /ERR_SSL_|EPROTO|ECONNRESET/);
  });
});
