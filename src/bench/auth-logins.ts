/** Logins, beside the hash alone; and what people who are in already notice of a flood of them. */
import { setTimeout as delay } from "node:timers/promises";
import { hash, verify } from "argon2";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { emailOf, makeSessions, type Session } from "../prove/auth-sessions.ts";
import type { AuthSetting } from "../prove/auth-setting.ts";
import type { Goals } from "../prove/figures.ts";
import { type AuthClient, clientAt } from "../prove/refresh-client.ts";
import { machineMs } from "./feed-database.ts";
import { median, quantile } from "./figures.ts";

const PASSWORD = "of a benchmark: wintry gallop 4711";
const HASH = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const AT_ONCE = 4;
const ROUND_MS = 5_000;
const ROUNDS = 3;
const CHECKS_PER_SECOND = 200;

export async function measureLogins(goals: Goals, setting: AuthSetting, key: ServiceKey): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const { sql, keys, replicas } = setting;
  const client = clientAt(replicas[0].publicUrl, opened);
  const people = await makeSessions(sql, keys, 2_000);
  const passwordHash = await hash(PASSWORD, HASH);
  const ids = people.map(({ userId }) => userId);
  await sql`insert into credentials (account_id, password_hash) select id, ${passwordHash} from unnest(${ids}::uuid[]) id`;
  let next = 0;
  const logIn = () => login(client, people[next++ % people.length]!);
  const hashAgain = () => verify(passwordHash, PASSWORD);
  await rateOf(logIn, 1_000);
  const rates = { logins: [] as number[], hashes: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    rates.hashes.push(await rateOf(hashAgain, ROUND_MS));
    rates.logins.push(await rateOf(logIn, ROUND_MS));
  }
  const ratios = rates.logins.map((rate, round) => rate / rates.hashes[round]!);
  const raw = `logins/s ${text(rates.logins)}; hashes/s ${text(rates.hashes)}; ${AT_ONCE} at once`;
  goals.atLeast("P4 logins, share of the bare hashes", median(ratios), 0.75, raw);

  const internal = opened
    .use(connectService({ baseUrl: replicas[0].internalUrl, key, clock }))
    .client(AuthInternalService);
  const check = ({ sessionId }: Session) => internal.checkSession({ sessionId, generation: 0 });
  await latenciesMs(check, people, 1_000);
  const idle = quantile(await latenciesMs(check, people, ROUND_MS), 0.99);
  const flood = rateOf(logIn, ROUND_MS + 1_000);
  await delay(500);
  const flooded = quantile(await latenciesMs(check, people, ROUND_MS), 0.99);
  await flood;
  const p99 = `p99 ${idle.toFixed(1)} ms idle, ${flooded.toFixed(1)} ms meanwhile`;
  goals.ratioAtMost("P4 R-NET-07 CheckSession at 200 a second, p99 during logins/idle", flooded / idle, 3, p99);
}

async function login(client: AuthClient, person: Session): Promise<void> {
  await client.login({ email: emailOf(person), password: PASSWORD });
}

/** How often in a second, so many at once. */
async function rateOf(work: () => Promise<unknown>, durationMs: number): Promise<number> {
  const startMs = machineMs();
  let count = 0;
  const again = async () => {
    while (machineMs() - startMs < durationMs) {
      await work();
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, again));
  return (count * 1_000) / (machineMs() - startMs);
}

/** From when each call was due. */
async function latenciesMs(call: (person: Session) => Promise<unknown>, people: Session[], durationMs: number) {
  const startMs = machineMs();
  const tookMs: number[] = [];
  const open: Promise<void>[] = [];
  for (let index = 0; index < (durationMs * CHECKS_PER_SECOND) / 1_000; index++) {
    const dueMs = startMs + (index * 1_000) / CHECKS_PER_SECOND;
    if (dueMs > machineMs()) await delay(dueMs - machineMs());
    open.push(call(people[index % people.length]!).then(() => void tookMs.push(machineMs() - dueMs)));
  }
  await Promise.all(open);
  return tookMs;
}

function text(rates: number[]): string {
  return rates.map((rate) => rate.toFixed(0)).join(" ");
}
