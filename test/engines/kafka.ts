/**
 * Apache Kafka as one broker that is its own controller (KRaft), on loopback, with a folder of its own. What Maven
 * brought (kafka/pom.xml) lies in .concierge/engines/kafka. Clients come in the clear, or over TLS with a password
 * (SASL).
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { Admin } from "@platformatic/kafka";
import { systemClock } from "../../src/clock.ts";
import { DEVELOPMENT_HOSTS, makeDevelopmentCertificates } from "../../src/dev/certificates.ts";
import { type Engine, engine, freePort } from "./engine.ts";

export interface KafkaOptions {
  /** Whom its clients must be: then they come by TLS, and by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. */
  user?: KafkaUser;
  /** Of clients; a free one when not given. */
  port?: number;
  /** Where it keeps data and logs, also after its end; a temporary one when not given. */
  folder?: string;
  /** Goes on when this process ends. */
  stays?: boolean;
}

export interface KafkaUser {
  name: string;
  password: string;
}

export interface Kafka extends Engine {
  /** "127.0.0.1:20123", the same after another start. */
  readonly broker: string;
  /** The certificate (PEM) that its clients trust; only with a user. */
  readonly authorityPath: string | undefined;
}

interface Ports {
  clients: number;
  brokers: number;
  controllers: number;
}

const JARS = join(resolve(import.meta.dirname, "../../.concierge/engines/kafka"), "*");
/** With the quick compiler only, it is there in half the time. */
const JAVA = [
  "-Xmx512m",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  "-cp",
  JARS,
];
const MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const CLUSTER_ID = "Y29uY2llcmdlLWthZmthLQ";

/** Starts a broker without topics (writing makes none), or, in a folder of before, with those of before. */
export async function startKafka({ user, port, folder, stays }: KafkaOptions = {}): Promise<Kafka> {
  await using opened = new AsyncDisposableStack();
  const home = folder ?? (await mkdtemp(join(tmpdir(), "concierge-kafka-")));
  if (!folder) opened.defer(() => rm(home, { recursive: true, force: true }));
  await mkdir(home, { recursive: true, mode: 0o700 });
  const ports = { clients: port ?? (await freePort()), brokers: await freePort(), controllers: await freePort() };
  const secured = user && (await secure(home, user));
  const properties = join(home, "server.properties");
  const lines = [...settings(home, ports, secured ? "SASL_SSL" : "PLAINTEXT"), ...(secured?.settings ?? [])];
  await writeFile(properties, lines.join("\n"), { mode: 0o600 });
  await format(properties, user);
  const server = opened.use(
    engine({
      program: "java",
      programArguments: [...JAVA, "kafka.Kafka", properties],
      folder: home,
      answers: () => answers(ports.brokers),
      stays,
    }),
  );
  await server.start();
  const resources = opened.move();
  return {
    ...server,
    broker: `127.0.0.1:${ports.clients}`,
    authorityPath: secured?.authorityPath,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function settings(home: string, { clients, brokers, controllers }: Ports, clientProtocol: string): string[] {
  const listeners = `CLIENTS://127.0.0.1:${clients},BROKERS://127.0.0.1:${brokers}`;
  return [
    "process.roles=broker,controller",
    "node.id=1",
    `controller.quorum.voters=1@127.0.0.1:${controllers}`,
    `listeners=${listeners},CONTROLLERS://127.0.0.1:${controllers}`,
    `advertised.listeners=${listeners}`,
    `listener.security.protocol.map=CLIENTS:${clientProtocol},BROKERS:PLAINTEXT,CONTROLLERS:PLAINTEXT`,
    "inter.broker.listener.name=BROKERS",
    "controller.listener.names=CONTROLLERS",
    `log.dirs=${join(home, "data")}`,
    // a broker that was killed may come back only after that
    "broker.session.timeout.ms=3000",
    "broker.heartbeat.interval.ms=500",
    "auto.create.topics.enable=false",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=1",
    "offsets.topic.replication.factor=1",
    "transaction.state.log.num.partitions=1",
    "transaction.state.log.replication.factor=1",
    "transaction.state.log.min.isr=1",
  ];
}

async function secure(home: string, { name, password }: KafkaUser) {
  const certificates = await makeDevelopmentCertificates(home, DEVELOPMENT_HOSTS, systemClock);
  const { keyPath, certificatePath, authorityPath } = certificates;
  const keyStore = join(home, "key-store.pem");
  const parts = await Promise.all([keyPath, certificatePath].map((path) => readFile(path, "utf8")));
  await writeFile(keyStore, parts.join(""), { mode: 0o600 });
  const plain = `org.apache.kafka.common.security.plain.PlainLoginModule required user_${name}="${password}";`;
  const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
  return {
    authorityPath,
    settings: [
      `sasl.enabled.mechanisms=${MECHANISMS.join(",")}`,
      `listener.name.clients.plain.sasl.jaas.config=${plain}`,
      `listener.name.clients.scram-sha-256.sasl.jaas.config=${scram}`,
      `listener.name.clients.scram-sha-512.sasl.jaas.config=${scram}`,
      "ssl.keystore.type=PEM",
      `ssl.keystore.location=${keyStore}`,
    ],
  };
}

/** Makes the data folder, once: a broker refuses one that nobody formatted. */
async function format(properties: string, user: KafkaUser | undefined): Promise<void> {
  const scram = MECHANISMS.filter((mechanism) => mechanism.startsWith("SCRAM")).flatMap((mechanism) =>
    user ? ["--add-scram", `${mechanism}=[name=${user.name},password=${user.password}]`] : [],
  );
  const options = ["--ignore-formatted", "--cluster-id", CLUSTER_ID, "--config", properties, ...scram];
  await promisify(execFile)("java", [...JAVA, "kafka.tools.StorageTool", "format", ...options]);
}

/** Whether it takes part in its cluster: only then it leads partitions. */
async function answers(port: number): Promise<boolean> {
  const admin = new Admin({
    clientId: "concierge-test",
    bootstrapBrokers: [`127.0.0.1:${port}`],
    connectTimeout: 1_000,
    timeout: 1_000,
    retries: false,
  });
  try {
    const { brokers } = await admin.metadata({ topics: [] });
    return brokers.size > 0;
  } catch {
    return false;
  } finally {
    await admin.close();
  }
}
