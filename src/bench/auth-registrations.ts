/** The transaction of a registration in this process, with a hash that is ready, beside pgbench with the same statements. */
import { openDatabase } from "../db/database.ts";
import { Alarm } from "../jobs.ts";
import type { AuthSetting } from "../prove/auth-setting.ts";
import type { Goals } from "../prove/figures.ts";
import { storeAccount } from "../services/auth/accounts.ts";
import { DerivedKeys } from "../services/auth/derived-keys.ts";
import { MAIL_TOKENS } from "../services/auth/mails.ts";
import { createTokenKeys } from "../token/key-making.ts";
import { recordAuth } from "./auth-statements.ts";
import { machineMs } from "./feed-database.ts";
import { median } from "./figures.ts";
import { pgbenchPerSecond, scriptOf } from "./pgbench.ts";

const AT_ONCE = 8;
const SECONDS = 8;
const ROUNDS = 3;
const PASSWORD_HASH = "a hash that is ready";

export async function measureRegistrations(goals: Goals, { databaseUrl, runtimeUrl }: AuthSetting): Promise<void> {
  const { statements, person } = await recordAuth();
  const userId = "md5((:account)::text)::uuid";
  const names: [string, string][] = [
    [person.userId, userId],
    [`account/${person.userId}`, `'account/' || ${userId}`],
    [person.email, "(:account)::text || '@example.com'"],
  ];
  const rates = { ours: [] as number[], pgbench: [] as number[] };
  await registrationsPerSecond(runtimeUrl, 1);
  for (let round = 1; round <= ROUNDS; round++) {
    // Addresses of its own in each round.
    const turn = `\\set turn :turn + 1\n\\set account (${round * AT_ONCE} + :client_id) * 1000000 + :turn`;
    const script = scriptOf(turn, statements.register, names);
    rates.pgbench.push(await pgbenchPerSecond(databaseUrl, script, { clients: AT_ONCE, seconds: SECONDS }));
    rates.ours.push(await registrationsPerSecond(runtimeUrl, SECONDS));
  }
  const ratios = rates.ours.map((rate, round) => rate / rates.pgbench[round]!);
  const text = (values: number[]) => values.map((value) => value.toFixed(0)).join(" ");
  const raw = `registrations/s ${text(rates.ours)}; pgbench/s ${text(rates.pgbench)}; ${AT_ONCE} at once`;
  const what = "P4b registrations with a ready hash, share of pgbench with the same statements";
  goals.atLeast(what, median(ratios), 0.5, raw);
}

async function registrationsPerSecond(url: string, seconds: number): Promise<number> {
  await using database = openDatabase({ url, poolSize: AT_ONCE, applicationName: "bench" });
  const mailing = {
    isOn: true,
    keys: new DerivedKeys(createTokenKeys(), MAIL_TOKENS),
    alarm: new Alarm(),
    requestAlarm: new Alarm(),
  };
  const auth = { db: database.db, mailing, requireEmailVerification: false };
  const startMs = machineMs();
  let count = 0;
  const again = async () => {
    while (machineMs() - startMs < seconds * 1_000) {
      const email = `${crypto.randomUUID()}@example.com`;
      const names = { firstName: "Ann", lastName: "Lee", locale: "en", stageName: "" };
      await storeAccount(auth, newScope(), { kind: "user", email, ...names }, PASSWORD_HASH);
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, again));
  return (count * 1_000) / (machineMs() - startMs);
}

/** As a call has it: with a signal of its own. */
function newScope() {
  const origin = { requestId: crypto.randomUUID(), address: "127.0.0.1", userAgent: "bench" };
  return { caller: { kind: "anonymous" }, origin, signal: new AbortController().signal } as const;
}
