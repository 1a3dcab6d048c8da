/**
 * Debian's redis-server on loopback, with a folder of its own. It keeps what it is told through a stop, a kill and
 * another start. Clients come in the clear, or over TLS with a password.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { systemClock } from "../../src/clock.ts";
import { DEVELOPMENT_HOSTS, makeDevelopmentCertificates } from "../../src/dev/certificates.ts";
import { type Engine, engine, freePort } from "./engine.ts";

export interface RedisServerOptions {
  /** Its clients come by TLS, and with it. */
  password?: string;
  /** A free one when not given. */
  port?: number;
  /** Where it keeps data and logs, also after its end; a temporary one when not given. */
  folder?: string;
  /** Goes on when this process ends. */
  stays?: boolean;
}

export interface RedisServer extends Engine {
  /** With the password, if it has one; the same after another start. */
  readonly url: string;
  readonly port: number;
  /** The certificate (PEM) that its clients trust; only with a password. */
  readonly authorityPath: string | undefined;
  /** What only somebody at the server could do; ends with it. */
  readonly client: Redis;
}

export async function startRedis({ password, port, folder, stays }: RedisServerOptions = {}): Promise<RedisServer> {
  await using opened = new AsyncDisposableStack();
  const home = folder ?? (await mkdtemp(join(tmpdir(), "concierge-redis-")));
  if (!folder) opened.defer(() => rm(home, { recursive: true, force: true }));
  await mkdir(home, { recursive: true, mode: 0o700 });
  const chosenPort = port ?? (await freePort());
  const certificates =
    password === undefined ? undefined : await makeDevelopmentCertificates(home, DEVELOPMENT_HOSTS, systemClock);
  const lines = ["bind 127.0.0.1", `dir ${home}`, "appendonly yes", "daemonize no"];
  if (certificates) {
    const { certificatePath, keyPath, authorityPath } = certificates;
    lines.push("port 0", `tls-port ${chosenPort}`, `requirepass ${password}`, "tls-auth-clients no");
    lines.push(`tls-cert-file ${certificatePath}`, `tls-key-file ${keyPath}`, `tls-ca-cert-file ${authorityPath}`);
  } else {
    lines.push(`port ${chosenPort}`);
  }
  const file = join(home, "redis.conf");
  await writeFile(file, `${lines.join("\n")}\n`, { mode: 0o600 });
  const url = certificates ? `rediss://:${password}@localhost:${chosenPort}` : `redis://localhost:${chosenPort}`;
  const client = clientOf(url);
  opened.defer(() => client.disconnect());
  const server = opened.use(
    engine({
      program: process.env.CONCIERGE_TEST_REDIS ?? "redis-server",
      programArguments: [file],
      folder: home,
      answers: () =>
        client.ping().then(
          () => true,
          () => false,
        ),
      stays,
    }),
  );
  await server.start();
  const resources = opened.move();
  return {
    ...server,
    url,
    port: chosenPort,
    authorityPath: certificates?.authorityPath,
    client,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Trusts whoever answers: it is here to look at the server, and not to be safe. */
function clientOf(url: string): Redis {
  const client = new Redis(url, {
    tls: url.startsWith("rediss:") ? { rejectUnauthorized: false } : undefined,
    enableOfflineQueue: false,
    retryStrategy: () => 20,
  });
  client.on("error", () => {}); // told by each command
  return client;
}
