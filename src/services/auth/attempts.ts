/**
 * How often a password may be tried. Each attempt is taken from its buckets before the hash, in one statement, so a hundred at
 * once get no more than one after the other; a success gives it back. Strangers can empty only the bucket of unknown devices:
 * whoever shows a device token or a session counts in another one. Accounts that do not exist have buckets, too.
 */
import { createHmac, type KeyObject } from "node:crypto";
import { inArray, type SQL, sql } from "drizzle-orm";
import type { KeyRing } from "../../config.ts";
import { type Db, during, type Tx } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { addressGroup, networkGroup } from "../../listener/address.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type AuditAction, audit } from "./audit.ts";
import { derivedKey } from "./derived-keys.ts";
import { attemptBuckets } from "./schema.ts";
import type { AuthContext } from "./service.ts";

const PURPOSE = "concierge attempts";
/** After so many failures in a row only a success of the account's other bucket, or a new password by mail, lets anybody in. */
const MOST_FAILURES = 100;
/** For how long failures in a row are remembered after the last one. */
const FAILURES_KEPT_SECONDS = 30 * 86_400;
const UNKNOWN_DEVICE_SECONDS = 60;
const KNOWN_DEVICE_SECONDS = 10;
const ADDRESS_SECONDS = 2;
/** A network has so many times as much as one address. */
const NETWORK_FACTOR = 10;
/** Registrations, requests for mails and resets, each by itself. */
const ANONYMOUS_CALLS = 20;
const ANONYMOUS_CALL_SECONDS = 30;
const LEAST_WAIT_MS = 1_000;

export interface AttemptLimits {
  /** Names of buckets are made with it. */
  key: KeyObject;
  /** Of one account, in a burst. */
  perAccount: number;
  /** Of one address, in a burst; 0 is no limit. */
  perAddress: number;
}

/** Another key, after a rotation, begins with full buckets. */
export function attemptLimits(tokenKeys: KeyRing, most: Omit<AttemptLimits, "key">): AttemptLimits {
  return { key: derivedKey(tokenKeys.keys[0]!.secret, PURPOSE), ...most };
}

/** Whose password is said to be known, and for what. */
export interface PasswordClaim<Credential extends { passwordHash: string }> {
  action: AuditAction;
  /** Of the account, whether it exists or not. */
  emailKey: string;
  /** The caller has a session of the account, or a device token of it. */
  isKnown: boolean;
  /** The account may be used. A right password of one that may not is treated as a wrong one, or it would tell that it is right. */
  isUsable: boolean;
  /** Undefined where there is no such account, as the credential. */
  accountId: string | undefined;
  credential: Credential | undefined;
}

/** What is written down of an attempt that is refused. */
type Refused = Pick<PasswordClaim<never>, "action" | "accountId">;

interface Bucket {
  key: string;
  capacity: number;
  /** In which one attempt is given back. */
  seconds: number;
  /** What an attempt counts until it is known to be none. */
  failures: 0 | 1;
  /** For how long it is to be remembered. */
  keptSeconds: number;
}

/**
 * Checks a password as one attempt of its account and its address, and writes down what it refuses. Returns the credential that the
 * password fits. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS, decided without a hash; UNAUTHENTICATED / BAD_CREDENTIALS;
 * RESOURCE_EXHAUSTED / TOO_MANY_HASHES. A caller who does not wait for the answer has made an attempt all the same.
 */
export async function checkPassword<Credential extends { passwordHash: string }>(
  auth: AuthContext,
  scope: CallScope,
  claim: PasswordClaim<Credential>,
  password: string,
): Promise<Credential> {
  const { db, passwords, attempts } = auth;
  const { action, accountId, emailKey, credential } = claim;
  const own = accountBuckets(attempts, emailKey);
  const [used, other] = claim.isKnown ? [own.known, own.unknown] : [own.unknown, own.known];
  const ofAddress = addressBuckets(attempts, scope);
  const buckets = [used, ...ofAddress];
  // First the address, so that one that is limited leaves nothing behind for each account that it names.
  await take(auth, scope, ofAddress, { action, accountId });
  await take(auth, scope, [used], { action, accountId }).catch(async (error: unknown) => {
    if (ofAddress.length > 0) await giveBack(db, ofAddress);
    throw error;
  });
  const fits = await passwords
    .verify(credential?.passwordHash, password, scope.signal)
    .catch(async (error: unknown) => {
      // Nobody has looked at the password.
      if (reasonOf(error) === "TOO_MANY_HASHES") await giveBack(db, buckets);
      throw error;
    });
  if (!fits || !credential || !claim.isUsable) throw await badCredentials(auth, scope, { action, accountId });
  await succeed(db, buckets, other);
  return credential;
}

/** Takes one of the calls of a kind that an address may make without being known. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS. */
export async function takeAnonymousCall(auth: AuthContext, scope: CallScope, action: AuditAction): Promise<void> {
  const { attempts } = auth;
  if (attempts.perAddress === 0) return;
  const key = bucketKey(attempts, action, addressGroup(scope.origin.address));
  const bucket = addressBucket(key, ANONYMOUS_CALLS, ANONYMOUS_CALL_SECONDS);
  await take(auth, scope, [bucket], { action, accountId: undefined });
}

/** Forgets the failures of an account: its password was replaced through its mailbox. */
export async function forgetAttempts(
  tx: Tx,
  { attempts }: Pick<AuthContext, "attempts">,
  emailKey: string,
): Promise<void> {
  const { known, unknown } = accountBuckets(attempts, emailKey);
  await tx.execute(sql`
    with ${chosen([known, unknown])} delete from ${attemptBuckets} b using chosen where b.key = chosen.key`);
}

/** The refusal of a wrong password, whatever is wrong, once it is written down. */
export async function badCredentials(
  { db, requireEmailVerification }: AuthContext,
  scope: CallScope,
  { action, accountId }: Refused,
) {
  const reason = "bad_credentials";
  await audit(during(db, scope.signal), scope, { action, outcome: "refused", reason, accountId });
  const orElse = requireEmailVerification ? ", or the address is not verified yet" : "";
  return fail(Code.Unauthenticated, "BAD_CREDENTIALS", `e-mail or password is wrong${orElse}`);
}

function accountBuckets(limits: AttemptLimits, emailKey: string): Record<"known" | "unknown", Bucket> {
  const bucket = (name: string, seconds: number): Bucket => ({
    key: bucketKey(limits, name, emailKey),
    capacity: limits.perAccount,
    seconds,
    failures: 1,
    keptSeconds: FAILURES_KEPT_SECONDS,
  });
  return { known: bucket("known", KNOWN_DEVICE_SECONDS), unknown: bucket("unknown", UNKNOWN_DEVICE_SECONDS) };
}

function addressBuckets(limits: AttemptLimits, { origin }: CallScope): Bucket[] {
  const { perAddress } = limits;
  if (perAddress === 0) return [];
  const address = bucketKey(limits, "address", addressGroup(origin.address));
  const network = bucketKey(limits, "network", networkGroup(origin.address));
  return [
    addressBucket(address, perAddress, ADDRESS_SECONDS),
    addressBucket(network, perAddress * NETWORK_FACTOR, ADDRESS_SECONDS / NETWORK_FACTOR),
  ];
}

function addressBucket(key: string, capacity: number, seconds: number): Bucket {
  return { key, capacity, seconds, failures: 0, keptSeconds: capacity * seconds };
}

function bucketKey({ key }: AttemptLimits, name: string, whose: string): string {
  return createHmac("sha256", key).update(`${name}|${whose}`).digest("hex");
}

/** Takes an attempt from each bucket, or from none. A refusal is written down once until an attempt is free again. */
async function take(auth: AuthContext, scope: CallScope, buckets: Bucket[], entry: Refused): Promise<void> {
  if (buckets.length === 0) return;
  const { db } = auth;
  const scoped = during(db, scope.signal);
  const mostFailures = mostFailuresOf(auth);
  const taken = new Set((await takeFree(scoped, buckets, mostFailures)).map(({ key }) => key));
  if (taken.size === buckets.length) return;
  const given = buckets.filter(({ key }) => taken.has(key));
  if (given.length > 0) await giveBack(db, given);
  const missed = buckets.filter(({ key }) => !taken.has(key));
  const refused = await countRefusal(scoped, missed, mostFailures);
  if (refused.some(({ refusals }) => refusals === 1)) {
    await audit(scoped, scope, { ...entry, outcome: "refused", reason: "too_many_attempts" });
  }
  const retryAfterMs = Math.max(LEAST_WAIT_MS, ...refused.map(({ waitMs }) => Math.ceil(waitMs)));
  throw fail(Code.ResourceExhausted, "TOO_MANY_ATTEMPTS", "too many attempts, try again later", { retryAfterMs });
}

/** Takes from the buckets that have an attempt left; in the order of their keys, so that two calls never wait for each other. */
function takeFree(db: Db, buckets: Bucket[], mostFailures: number) {
  return db.execute<{ key: string }>(sql`
    insert into ${attemptBuckets} as b (key, attempt_seconds, free_at, failures, expires_at)
    select decode(key, 'hex'), seconds, concierge_now() + make_interval(secs => seconds * (2 - capacity)), failures,
      concierge_now() + make_interval(secs => "keptSeconds")
    from jsonb_to_recordset(${JSON.stringify(buckets)}::jsonb)
      as wanted(key text, capacity integer, seconds float8, failures integer, "keptSeconds" float8)
    order by key
    on conflict (key) do update set
      attempt_seconds = excluded.attempt_seconds,
      free_at = greatest(b.free_at + make_interval(secs => excluded.attempt_seconds), excluded.free_at),
      failures = b.failures + excluded.failures,
      refusals = 0,
      expires_at = excluded.expires_at
    where b.free_at <= concierge_now() and b.failures < ${mostFailures}
    returning encode(key, 'hex') as key`);
}

function countRefusal(db: Db, buckets: Bucket[], mostFailures: number) {
  return db.execute<{ refusals: number; waitMs: number }>(sql`
    with ${chosen(buckets)}
    update ${attemptBuckets} b set refusals = b.refusals + 1 from chosen where b.key = chosen.key
    returning b.refusals, (extract(epoch from
      case when b.failures < ${mostFailures} then b.free_at else b.expires_at end - concierge_now()) * 1000)::float8 as "waitMs"`);
}

/** Where no mail can open an account again, nobody may close it: there the pace alone is limited. */
function mostFailuresOf({ mailing }: AuthContext): number {
  return mailing.isOn ? MOST_FAILURES : 2 ** 31 - 1;
}

/** Gives back what was not an attempt after all; not for the time of the call only, so whether somebody still waits or not. */
async function giveBack(db: Db, taken: Bucket[]): Promise<void> {
  await db.execute(sql`
    with ${chosen(taken)}
    update ${attemptBuckets} b
    set free_at = b.free_at - make_interval(secs => b.attempt_seconds), failures = greatest(b.failures - 1, 0)
    from chosen where b.key = chosen.key`);
}

/** Gives back an attempt that was right, and ends the series of failures, also those in the account's other bucket. */
async function succeed(db: Db, taken: Bucket[], other: Bucket): Promise<void> {
  await db.execute(sql`
    with ${chosen([...taken, other])}
    update ${attemptBuckets} b
    set free_at = case when b.key = ${Buffer.from(other.key, "hex")}::bytea then b.free_at
        else b.free_at - make_interval(secs => b.attempt_seconds) end, failures = 0
    from chosen where b.key = chosen.key`);
}

/** Locks buckets in the order of their keys. */
function chosen(buckets: Bucket[]): SQL {
  const keys = buckets.map(({ key }) => Buffer.from(key, "hex"));
  const which = inArray(attemptBuckets.key, keys);
  return sql`chosen as materialized (select key from ${attemptBuckets} where ${which} order by key for update)`;
}
