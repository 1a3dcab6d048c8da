/**
 * Publishes records: acknowledged by all replicas in sync, by an idempotent producer with one request at a time, so that retries
 * neither repeat nor reorder. A call has published everything when it resolves; when it rejects, nobody knows how much.
 */
import type { BaseOptions } from "@platformatic/kafka";
import { loadKafka } from "./connection.ts";
import type { KafkaRecord } from "./records.ts";

export interface Publisher extends AsyncDisposable {
  /** Throws NotPublished. */
  publish(records: KafkaRecord[]): Promise<void>;
}

/** The message is what happened in the words of Kafka's protocol, or a code; nothing of the records. */
export class NotPublished extends Error {
  override readonly name = "NotPublished";
  /** Brokers do not take these records, however often they are asked. */
  readonly isRefusal: boolean;

  constructor(error: unknown) {
    const names = namesOf(error);
    super(names[0] ?? "unknown");
    this.isRefusal = names.some((name) => REFUSALS.has(name));
  }
}

const REFUSALS = new Set(["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD"]);
const RETRIES = 6;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 1_000;

/** Opens one; it connects when there is something to publish. */
export async function openPublisher(connection: BaseOptions): Promise<Publisher> {
  const { Producer, compatibilityPartitioner } = await loadKafka();
  const producer = new Producer({
    ...connection,
    idempotent: true,
    // As Java's clients choose them, so that topics of others with the same keys have the same partitions.
    partitioner: compatibilityPartitioner,
    retries: RETRIES,
    retryDelay: (_client, _operation, attempt) => {
      return Math.min(FIRST_RETRY_MS * 2 ** attempt, MAX_RETRY_MS) * (0.5 + Math.random() / 2);
    },
  });
  return {
    async publish(records) {
      try {
        await producer.send({ messages: records });
      } catch (error) {
        throw new NotPublished(error);
      }
    },
    [Symbol.asyncDispose]: async () => {
      await producer.close();
    },
  };
}

/** What an error and its causes are called: the names of Kafka's protocol first, then other codes. */
function namesOf(error: unknown): string[] {
  const all = withCauses(error);
  const inProtocol = all.flatMap((one) => ("apiId" in one ? [String(one.apiId)] : []));
  const codes = all.flatMap((one) => ("code" in one ? [String(one.code)] : [])).reverse();
  return [...inProtocol, ...codes];
}

function withCauses(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  const inner: unknown[] = [...(error instanceof AggregateError ? error.errors : []), error.cause];
  return [error, ...inner.flatMap(withCauses)];
}
