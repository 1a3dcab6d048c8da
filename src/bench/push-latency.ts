/**
 * Latency (P6): from storing a notification to FCM's acceptance, with one sender, at a moderate rate. The same while an organization
 * has a long queue: another author's single notification (R-NOT-14), and the moderate rate beside it (S-NOT-12).
 */
import type { Goals } from "../prove/figures.ts";
import { Author } from "../prove/push-author.ts";
import { latenciesOf, latencyText, readAccepted } from "../prove/push-checks.ts";
import { addPeople, openPushSetting, type PushSetting } from "../prove/push-setting.ts";
import { Random } from "../testing/seeded.ts";
import { until } from "../testing/until.ts";
import { quantile } from "./figures.ts";
import { queueNotifications } from "./push-queue.ts";

const RATE = 100;
const SECONDS = 10;
const PEOPLE = 1_000;
const MAX_MEDIAN_MS = 50;
const MAX_P99_MS = 500;
const MAX_FAIR_MS = 5_000;
const MAX_RATIO = 2;
const PATIENCE_MS = 60_000;

/** `queued` is the length of the long queue. */
export async function measureLatency(goals: Goals, queued: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const setting = await openPushSetting({ notifications: 1, senders: 1 }, opened);
  const people = await addPeople(setting.sql, PEOPLE);
  await setting.senders[0]!.start();
  const latencies = (count: number) => latenciesAmong(setting, people, count);
  // The code is compiled with others first.
  await latencies(RATE * 2);
  const alone = await latencies(RATE * SECONDS);
  goals.atMost(`P6 created to accepted at ${RATE} a second, p50 ms`, quantile(alone, 0.5), MAX_MEDIAN_MS);
  goals.atMost(
    `P6 created to accepted at ${RATE} a second, p99 ms`,
    quantile(alone, 0.99),
    MAX_P99_MS,
    latencyText(alone),
  );
  await queueNotifications(setting.sql, { organizationId: crypto.randomUUID(), people, count: queued });
  const [first] = await latencies(1);
  goals.atMost(`R-NOT-14 one notification beside ${queued} of an organization, ms`, first!, MAX_FAIR_MS);
  const beside = await latencies(RATE * SECONDS);
  const [left] = await setting.sql<{ count: number }[]>`select count(*)::int from deliveries`;
  const ratio = quantile(beside, 0.99) / quantile(alone, 0.99);
  goals.atLeast("S-NOT-12 still queued after that", left!.count, 1);
  goals.ratioAtMost(
    `S-NOT-12 p99 at ${RATE} a second beside ${queued} of an organization/alone`,
    ratio,
    MAX_RATIO,
    latencyText(beside),
  );
}

/** Of notifications that are created now. */
async function latenciesAmong(setting: PushSetting, people: string[], count: number): Promise<number[]> {
  const { sql, clients, push } = setting;
  const author = new Author({ clients, people, random: new Random(count), rate: RATE });
  await author.run(count);
  const ids = [...author.created.keys()];
  const isPushed = async () => {
    return !(await sql`select from deliveries where notification_id = any(${ids}::uuid[]) limit 1`).length;
  };
  await until("these are pushed", isPushed, PATIENCE_MS);
  return latenciesOf(sql, author, await readAccepted(push.ledgerFile));
}
