/** Looks for topics, makes and removes them. */
import { ExitCode, StartupError } from "../errors.ts";
import { connectionOptions, type KafkaConfig, loadKafka } from "./connection.ts";

const CLIENT_ID = "concierge-command";

/** Makes those that are missing, and returns their names. Throws a StartupError if brokers do not answer, or refuse. */
export function createTopics(
  config: KafkaConfig,
  names: readonly string[],
  { partitions, replicas }: { partitions: number; replicas: number },
): Promise<string[]> {
  return asAdmin(config, async (admin) => {
    const known = new Set(await admin.listTopics());
    const topics = names.filter((name) => !known.has(name));
    if (topics.length > 0) await admin.createTopics({ topics, partitions, replicas });
    return topics;
  });
}

/** Those of these names that are not there, or that we may not see. Throws a StartupError if brokers do not answer, or refuse. */
export function missingTopics(config: KafkaConfig, names: readonly string[]): Promise<string[]> {
  return asAdmin(config, async (admin) => {
    const known = new Set(await admin.listTopics());
    return names.filter((name) => !known.has(name));
  });
}

/** With everything in them. */
export function deleteTopics(config: KafkaConfig, names: readonly string[]): Promise<void> {
  return asAdmin(config, (admin) => admin.deleteTopics({ topics: [...names] }));
}

type Admin = InstanceType<Awaited<ReturnType<typeof loadKafka>>["Admin"]>;

async function asAdmin<T>(config: KafkaConfig, work: (admin: Admin) => Promise<T>): Promise<T> {
  const connection = connectionOptions(CLIENT_ID, config);
  const { Admin } = await loadKafka();
  const admin = new Admin(connection);
  try {
    return await work(admin);
  } catch (cause) {
    throw new StartupError("Kafka's brokers do not answer, or refuse", ExitCode.unavailable, { cause });
  } finally {
    await admin.close();
  }
}
