/**
 * Mails that wait to be sent, in the database: one is written in the transaction of what it tells of, and sent later
 * (mailer.ts). The token in a mail's link is derived from the mail's id when it is sent; what is stored is its SHA-256.
 * It is used once, while it is young, and only until the password or the address of the account changes.
 */
import { type SQL, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import type { Db, Tx } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { Alarm } from "../../jobs.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { DerivedKeys } from "./derived-keys.ts";
import { hashOf } from "./refresh-tokens.ts";
import { accounts, credentials, type MAIL_KINDS, mails } from "./schema.ts";

export type MailKind = (typeof MAIL_KINDS)[number];

/** What the keys are derived for. */
export const MAIL_TOKENS = "concierge mail token";

/** For how long a token is good: after the last try to send its mail, and after the mail was written, however often it was tried. */
interface TokenLife {
  sentSeconds: number;
  writtenSeconds: number;
}

const DAY_LIFE: TokenLife = { sentSeconds: 24 * 3_600, writtenSeconds: 25 * 3_600 };
/** Of the token in a kind's link. A kind without one has no link. */
const TOKEN_LIVES: Partial<Record<MailKind, TokenLife>> = {
  verify_email: DAY_LIFE,
  change_email: DAY_LIFE,
  reset_password: { sentSeconds: 10 * 60, writtenSeconds: 30 * 60 },
};
/** Most mails of one kind to one account: nobody's inbox is to be filled by strangers. */
const MOST_PER_HOUR = 3;
const KEEP_DAYS = 30;
const SWEEP_ROWS = 1_000;

/** How this process mails. */
export interface Mailing {
  /** Whether mails are sent at all; where not, none is written. */
  isOn: boolean;
  keys: DerivedKeys;
  /** Rung when somebody waits for a mail that was just written. */
  alarm: Alarm;
  /** Rung when somebody has asked for a mail (mail-requests.ts). */
  requestAlarm: Alarm;
}

export interface NewMail {
  kind: MailKind;
  accountId: string;
  /** The account's address unless told otherwise. */
  recipient?: string;
  /** Whoever asks for it is not a stranger. */
  isUnlimited?: boolean;
}

/**
 * Writes a mail to an active account. Answers false if there is none, or it has had enough of this kind in the last
 * hour.
 */
export async function writeMail(
  tx: Tx,
  { isOn, keys }: Mailing,
  { origin }: Pick<CallScope, "origin">,
  { kind, accountId, recipient, isUnlimited = false }: NewMail,
): Promise<boolean> {
  if (!isOn) return false;
  const id = uuidv7();
  const tokenHash = TOKEN_LIVES[kind] === undefined ? null : hashOf(tokenOf(keys, keys.newest, id));
  const written = await tx.execute(sql`
    insert into ${mails} (id, account_id, kind, recipient, address, token_hash, key_id, credential_version)
    select ${id}, a.id, ${kind}, coalesce(${recipient ?? null}, a.email), ${origin.address}, ${tokenHash}::bytea, ${keys.newest},
      c.version
    from ${accounts} a join ${credentials} c on c.account_id = a.id
    where a.id = ${accountId} and a.status = 'active' and (${isUnlimited} or ${MOST_PER_HOUR} > (
      select count(*) from ${mails} where account_id = a.id and kind = ${kind}
        and created_at > concierge_now() - interval '1 hour'))
    returning 1`);
  return written.length === 1;
}

/** The token of a mail. */
export function tokenOf(keys: DerivedKeys, keyId: string, mailId: string): string {
  return keys.derive(keyId, mailId);
}

/** What a token stands for. */
export interface MailToken {
  mailId: string;
  accountId: string;
  kind: MailKind;
  recipient: string;
}

/** The token if it can be used now; costs nothing but a look. INVALID_ARGUMENT / BAD_MAIL_TOKEN. */
export async function findMailToken(db: Db, token: string, kinds: MailKind[]): Promise<MailToken> {
  const [found] = await db.execute<{ [Key in keyof MailToken]: MailToken[Key] }>(sql`
    select m.id as "mailId", m.account_id as "accountId", m.kind as kind, m.recipient as recipient
    from ${mails} m join ${credentials} c on c.account_id = m.account_id
    where m.token_hash = ${hashOf(token)} and m.kind in ${kinds} and ${isUsable(sql`c.version`)}`);
  if (!found) throw badMailToken();
  return found;
}

/** Uses up a token, of an account whose row and credential are locked. INVALID_ARGUMENT / BAD_MAIL_TOKEN. */
export async function spendMailToken(tx: Tx, mailId: string, credentialVersion: number): Promise<void> {
  const spent = await tx.execute(sql`
    update ${mails} m set token_used_at = concierge_now()
    where m.id = ${mailId} and ${isUsable(sql`${credentialVersion}`)}
    returning 1`);
  if (spent.length === 0) throw badMailToken();
}

function isUsable(version: SQL): SQL {
  return sql`(m.token_used_at is null and m.credential_version = ${version}
    and m.created_at > ${startOfLife("writtenSeconds")} and m.last_attempt_at > ${startOfLife("sentSeconds")})`;
}

/** Before it a mail is too old for its token to be good; null for a kind without one. */
function startOfLife(life: keyof TokenLife): SQL {
  const lives = Object.entries(TOKEN_LIVES).map(([kind, lives]) => sql`when ${kind} then ${lives[life]}::integer`);
  return sql`concierge_now() - make_interval(secs => case m.kind ${sql.join(lives, sql` `)} end)`;
}

/** The refusal of a token, whatever is wrong with it. */
export function badMailToken() {
  return fail(Code.InvalidArgument, "BAD_MAIL_TOKEN", "the link is wrong, was used already or is too old");
}

/** The refusal of what makes no sense without mails. */
export function requireMailing({ isOn }: Mailing): void {
  if (!isOn) throw fail(Code.FailedPrecondition, "MAIL_DISABLED", "no mails are sent here");
}

/** A mail that was taken to be sent. */
export interface TakenMail {
  id: string;
  kind: MailKind;
  recipient: string;
  /** IP address of the call that it tells of. */
  address: string;
  organizationName: string;
  createdAt: Date;
  hasToken: boolean;
  /** Its token has become too old before it could be sent. */
  isTokenOver: boolean;
  keyId: string;
  /** With this one. */
  attempts: number;
  /** Waiting for so long that this is the last try. */
  isLast: boolean;
}

/**
 * Takes up to `limit` mails whose time has come, for `leaseSeconds`; those that strangers cause, invitations, after all
 * others. What another process takes at this moment is passed over.
 */
export async function takeMails(
  db: Db,
  { limit, leaseSeconds, giveUpSeconds }: { limit: number; leaseSeconds: number; giveUpSeconds: number },
): Promise<TakenMail[]> {
  const taken = await db.execute<Omit<TakenMail, "createdAt"> & { createdMs: number }>(sql`
    with due as (
      select id from ${mails} where sent_at is null and given_up_at is null and next_attempt_at <= (select concierge_now())
      order by kind = 'organization_invitation', next_attempt_at limit ${limit} for update skip locked
    )
    update ${mails} m set attempts = attempts + 1, last_attempt_at = concierge_now(),
      next_attempt_at = concierge_now() + make_interval(secs => ${leaseSeconds})
    from due where m.id = due.id
    returning m.id, m.kind, m.recipient, m.address, m.organization_name as "organizationName", m.attempts,
      m.token_hash is not null as "hasToken", m.key_id as "keyId",
      coalesce(m.created_at <= ${startOfLife("writtenSeconds")}, false) as "isTokenOver",
      extract(epoch from m.created_at)::float8 * 1000 as "createdMs",
      m.created_at < concierge_now() - make_interval(secs => ${giveUpSeconds}) as "isLast"`);
  return taken.map(({ createdMs, ...mail }) => ({ ...mail, createdAt: new Date(createdMs) }));
}

/** How a try ended. */
export type MailOutcome = { kind: "sent" } | { kind: "given_up" } | { kind: "later"; seconds: number };

/** Writes down how a try ended, unless a later one has begun. */
export async function markMail(db: Db, { id, attempts }: TakenMail, outcome: MailOutcome): Promise<void> {
  const change = changeOf(outcome);
  await db.execute(sql`
    update ${mails} set ${change} where id = ${id} and attempts = ${attempts} and sent_at is null and given_up_at is null`);
}

function changeOf(outcome: MailOutcome): SQL {
  switch (outcome.kind) {
    case "sent":
      return sql`sent_at = concierge_now()`;
    case "given_up":
      return sql`given_up_at = concierge_now()`;
    case "later":
      return sql`next_attempt_at = concierge_now() + make_interval(secs => ${outcome.seconds})`;
  }
}

/** Deletes old mails, in small batches. */
export async function sweepMails(db: Db, signal: AbortSignal): Promise<void> {
  for (let deleted = SWEEP_ROWS; deleted === SWEEP_ROWS && !signal.aborted; ) {
    const rows = await db.execute(sql`
      delete from ${mails} where id in (
        select id from ${mails} where created_at < (select concierge_now()) - make_interval(days => ${KEEP_DAYS}) limit ${SWEEP_ROWS}
      ) returning 1`);
    deleted = rows.length;
  }
}
