/**
 * `make prove/enumeration`: whether the time that an answer takes tells if an account exists (G12, S-PWD-11, S-PWD-12). Calls about
 * accounts of several sorts go in turn, one after the other, to auth in production mode with addresses that must be verified; of two
 * sorts, the share of pairs in which the first one took longer must be near one half. About five minutes; QUICK=1 takes a quarter.
 */
import type { CallOptions } from "@connectrpc/connect";
import { hash } from "argon2";
import { machineLine } from "../bench/figures.ts";
import { startMailServer } from "../testing/mail-server.ts";
import { Random } from "../testing/seeded.ts";
import { createServiceKey } from "../token/key-making.ts";
import { emailOf, makeSessions } from "./auth-sessions.ts";
import { type AuthSetting, openAuthSetting } from "./auth-setting.ts";
import { Goals } from "./figures.ts";
import { clientAt, outcomeOf } from "./refresh-client.ts";
import { nowMs } from "./revocation-clock.ts";

const { QUICK } = process.env;
const SEED = Number(process.env.SEED ?? Math.trunc(Math.random() * 2 ** 31));
const SAMPLES = QUICK ? 500 : 2_000;
/** Of the share from one half. With 2,000 of each sort its standard error is 0.009. */
const BOUND = QUICK ? 0.06 : 0.03;
const WARM_UP = 50;
const PASSWORD = "of a proof: wintry gallop 4711";

/** Addresses by their sort; each is used once. */
type Sorts = Record<string, string[]>;

async function main(): Promise<number> {
  const goals = new Goals("G12");
  goals.info(machineLine());
  goals.info(`SEED=${SEED}`);
  await using opened = new AsyncDisposableStack();
  const mails = opened.use(await startMailServer());
  const setting = await openAuthSetting([createServiceKey("user", "auth", "service")], opened, {
    variables: {
      CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "true",
      // Each call comes from an address of its own, so that none is refused for their number.
      CONCIERGE_TRUSTED_PROXIES: "127.0.0.1",
      CONCIERGE_AUTH_SMTP_URL: mails.url,
      CONCIERGE_AUTH_MAIL_FROM: "hello@example.com",
      CONCIERGE_AUTH_LINK_BASE_URL: "https://app.example.com",
    },
  });
  const client = clientAt(setting.replicas[0].publicUrl, opened);
  const logins = await loginSorts(setting);
  await judge(goals, "S-PWD-11 a login", logins, (email, options) => {
    return client.login({ email, password: `${PASSWORD}!` }, options);
  });
  await judge(goals, "S-PWD-12 a reset", await twoSorts(setting), (email, options) =>
    client.requestPasswordReset({ email }, options),
  );
  await judge(goals, "S-PWD-12 a resend", await twoSorts(setting), (email, options) =>
    client.resendVerification({ email }, options),
  );
  await judge(goals, "S-PWD-12 a registration", await twoSorts(setting), (email, options) => {
    return client.registerUser({ email, password: PASSWORD, firstName: "Ann", lastName: "Lee" }, options);
  });
  return goals.missed === 0 ? 0 : 1;
}

/** Accounts with the same password, of which some are disabled, and some have a hash that nobody can read. */
async function loginSorts(setting: AuthSetting): Promise<Sorts> {
  const { sql } = setting;
  const passwordHash = await hash(PASSWORD, { memoryCost: 19_456, timeCost: 2, parallelism: 1 });
  const sorts: Sorts = { known: [], unknown: strangers(), disabled: [], unreadable: [] };
  for (const sort of ["known", "disabled", "unreadable"]) {
    const people = await makeSessions(sql, setting.keys, SAMPLES + WARM_UP);
    const ids = people.map(({ userId }) => userId);
    const stored = sort === "unreadable" ? "none that anybody knows" : passwordHash;
    await sql`insert into credentials (account_id, password_hash) select id, ${stored} from unnest(${ids}::uuid[]) id`;
    if (sort === "disabled") await sql`update accounts set status = 'disabled' where id = any(${ids}::uuid[])`;
    sorts[sort] = people.map(emailOf);
  }
  return sorts;
}

async function twoSorts(setting: AuthSetting): Promise<Sorts> {
  const people = await makeSessions(setting.sql, setting.keys, SAMPLES + WARM_UP);
  const ids = people.map(({ userId }) => userId);
  await setting.sql`insert into credentials (account_id, password_hash) select id, 'none' from unnest(${ids}::uuid[]) id`;
  return { known: people.map(emailOf), unknown: strangers() };
}

/** As long as the others. */
function strangers(): string[] {
  return Array.from({ length: SAMPLES + WARM_UP }, () => `${crypto.randomUUID()}@example.com`);
}

/** Compares every sort with the first one. */
async function judge(
  goals: Goals,
  what: string,
  sorts: Sorts,
  call: (email: string, options: CallOptions) => Promise<unknown>,
): Promise<void> {
  const names = Object.keys(sorts);
  const tookMs = new Map(names.map((name) => [name, [] as number[]]));
  const answers = new Map(names.map((name) => [name, new Set<string>()]));
  const random = new Random(SEED);
  for (let turn = 0; turn < SAMPLES + WARM_UP; turn++) {
    // Each time in another order: what comes after what must not tell either.
    for (const name of shuffled(names, random)) {
      const headers = { "x-forwarded-for": randomAddress(random) };
      const startMs = nowMs();
      const outcome = await outcomeOf(call(sorts[name]![turn]!, { headers }));
      if (turn >= WARM_UP) tookMs.get(name)!.push(nowMs() - startMs);
      answers.get(name)!.add(outcome.kind === "failed" ? outcome.why : outcome.kind);
    }
  }
  const [first, ...others] = names as [string, ...string[]];
  for (const name of others) {
    const share = shareOfLonger(tookMs.get(first)!, tookMs.get(name)!);
    const raw = `the first one took longer in ${(share * 100).toFixed(1)} % of pairs`;
    goals.atMost(`${what}, ${first} or ${name}: distance from one half`, Math.abs(share - 0.5), BOUND, raw);
  }
  const different = new Set([...answers.values()].map((said) => [...said].sort().join(" | ")));
  goals.atMost(`${what}: different answers`, different.size, 1, [...different].join("; "));
}

function randomAddress(random: Random): string {
  return ["10", ...[0, 0, 0].map(() => random.below(256))].join(".");
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const left = [...items];
  return items.map(() => left.splice(random.below(left.length), 1)[0]!);
}

/** Of all pairs, the share in which the value of `a` is the larger one (the area under the curve of Mann and Whitney). */
function shareOfLonger(a: number[], b: number[]): number {
  const all = [...a.map((ms) => ({ ms, isA: true })), ...b.map((ms) => ({ ms, isA: false }))].sort(
    (x, y) => x.ms - y.ms,
  );
  let smaller = 0;
  let pairs = 0;
  for (const { isA } of all) {
    if (isA) pairs += smaller;
    else smaller++;
  }
  return pairs / (a.length * b.length);
}

process.exitCode = await main();
