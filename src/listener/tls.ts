/**
 * TLS of a listener: TLS 1.2 and 1.3 with ciphers that encrypt and authenticate at once, HTTP/2 and HTTP/1.1 by ALPN.
 * The certificate is read again when its files change, without a restart; a pair that does not fit is reported, and the
 * old one stays.
 */
import { constants, X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type net from "node:net";
import tls from "node:tls";
import { StartupError } from "../errors.ts";

/** The files of a certificate; both or none of them are set. */
export interface TlsPaths {
  /** PEM: the certificate, and those between it and its authority. */
  certificatePath?: string;
  /** PEM: its private key. */
  keyPath?: string;
}

interface Pair {
  cert: Buffer;
  key: Buffer;
  /** Tells whether the files are still those. */
  stamp: string;
}

const TLS_OPTIONS: tls.TlsOptions = {
  ALPNProtocols: ["h2", "http/1.1"],
  minVersion: "TLSv1.2",
  ciphers: [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
  ].join(":"),
  honorCipherOrder: false, // every one of them is good, so the client takes what its hardware does best
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
};

/** The TLS side of a listener: takes sockets and gives them back encrypted. */
export interface TlsServer {
  /** Starts a handshake. `onSecure` gets the encrypted side when it is done, and is never called when it fails. */
  take(socket: net.Socket, onSecure: (carrier: tls.TLSSocket) => void): void;
  /** Looks whether the files have changed. Never rejects. */
  check(): Promise<void>;
}

/**
 * Reads the files; undefined when none are set. Throws a StartupError that names what cannot be used. `onProblem` is told,
 * once for each change, of files that cannot be used later.
 */
export async function openTls(
  { certificatePath, keyPath }: TlsPaths,
  onProblem: (error: Error) => void,
): Promise<TlsServer | undefined> {
  if (certificatePath === undefined && keyPath === undefined) return undefined;
  if (certificatePath === undefined) throw new StartupError(`TLS: a key is set (${keyPath}), but no certificate`);
  if (keyPath === undefined) throw new StartupError(`TLS: a certificate is set (${certificatePath}), but no key`);
  const first = await readPair(certificatePath, keyPath);
  const server = tls.createServer({ ...TLS_OPTIONS, cert: first.cert, key: first.key });
  let { stamp } = first;
  let checking: Promise<void> | undefined;

  async function reload(certificatePath: string, keyPath: string): Promise<void> {
    const found = await stampOf(certificatePath, keyPath).catch(() => "unreadable");
    if (found === stamp) return;
    stamp = found;
    try {
      const { cert, key } = await readPair(certificatePath, keyPath);
      server.setSecureContext({ ...TLS_OPTIONS, cert, key });
    } catch (error) {
      onProblem(error as Error);
    }
  }

  return {
    take: handshakesOf(server),
    check() {
      checking ??= reload(certificatePath, keyPath).finally(() => {
        checking = undefined;
      });
      return checking;
    },
  };
}

/** The server does not say which socket an encrypted one was made of; both have the same ends, which no other pair has. */
function handshakesOf(server: tls.Server): TlsServer["take"] {
  const waiting = new Map<string, (carrier: tls.TLSSocket) => void>();
  const endsOf = ({ remoteAddress, remotePort, localAddress }: net.Socket) =>
    `${remoteAddress} ${remotePort} ${localAddress}`;
  server.on("secureConnection", (carrier) => {
    carrier.on("error", () => {}); // a reset by the peer; "close" follows
    const onSecure = waiting.get(endsOf(carrier));
    if (onSecure) onSecure(carrier);
    else carrier.destroy(); // gone already
  });
  return (socket, onSecure) => {
    const ends = endsOf(socket);
    waiting.set(ends, onSecure);
    socket.once("close", () => {
      if (waiting.get(ends) === onSecure) waiting.delete(ends);
    });
    server.emit("connection", socket);
  };
}

/** Both files, once they are known to work together. A change while they are read is found by the next look. */
async function readPair(certificatePath: string, keyPath: string): Promise<Pair> {
  const stamp = await stampOf(certificatePath, keyPath);
  const [cert, key] = await Promise.all([readOne("certificate", certificatePath), readOne("key", keyPath)]);
  checkPair(cert, certificatePath, key, keyPath);
  return { cert, key, stamp };
}

/** Changes with either file, also when a link is pointed elsewhere, which is how Kubernetes swaps secrets. */
async function stampOf(certificatePath: string, keyPath: string): Promise<string> {
  const of = async (what: string, path: string) => {
    const { ino, size, mtimeMs } = await stat(path).catch((error: unknown) =>
      Promise.reject(unreadable(what, path, error)),
    );
    return `${ino} ${size} ${mtimeMs}`;
  };
  return (await Promise.all([of("certificate", certificatePath), of("key", keyPath)])).join(" ");
}

async function readOne(what: string, path: string): Promise<Buffer> {
  return readFile(path).catch((error: unknown) => Promise.reject(unreadable(what, path, error)));
}

function unreadable(what: string, path: string, error: unknown): StartupError {
  const { code = "unknown error" } = error as NodeJS.ErrnoException;
  return new StartupError(`TLS: the ${what} ${path} cannot be read: ${code}`);
}

function checkPair(cert: Buffer, certificatePath: string, key: Buffer, keyPath: string): void {
  const attempt = (problem: string, use: () => unknown) => {
    try {
      use();
    } catch (cause) {
      throw new StartupError(problem, undefined, { cause });
    }
  };
  attempt(`TLS: ${certificatePath} holds no certificate in PEM`, () => new X509Certificate(cert));
  attempt(`TLS: ${keyPath} holds no private key in PEM without a password`, () => tls.createSecureContext({ key }));
  attempt(`TLS: the key ${keyPath} and the certificate ${certificatePath} do not work together`, () =>
    tls.createSecureContext({ ...TLS_OPTIONS, cert, key }),
  );
}
