/**
 * The mailer: takes the mails that wait, sends them, and writes down how that ended. A mail is sent at least once: who
 * dies between sending and writing it down leaves it to be sent again when its time is over. What a server refuses for
 * good is given up at once, everything else when its link is good for nothing any more, or a day after it was written.
 */
import type { Db } from "../../db/database.ts";
import { failpoint } from "../../failpoints.ts";
import type { Logger } from "../../log.ts";
import { invitationLink, linkOf, textOf } from "./mail-texts.ts";
import { type Mailing, type MailOutcome, markMail, type TakenMail, takeMails, tokenOf } from "./mails.ts";

/** A mail as it is sent. */
export interface Message {
  id: string;
  to: string;
  subject: string;
  text: string;
}

/** Sends a mail; what it throws tells why that failed. */
export type SendMail = (message: Message) => Promise<void>;

export interface MailerOptions {
  db: Db;
  mailing: Mailing;
  send: SendMail;
  /** What links begin with. */
  linkBaseUrl: string;
  log: Logger;
}

const BATCH = 10;
const LEASE_SECONDS = 120;
const GIVE_UP_SECONDS = 86_400;
const FIRST_PAUSE_SECONDS = 30;
const LONGEST_PAUSE_SECONDS = 3_600;

/** Sends what waits; batches follow each other until there is nothing left. */
export async function sendMails(options: MailerOptions, signal: AbortSignal): Promise<void> {
  const terms = { limit: BATCH, leaseSeconds: LEASE_SECONDS, giveUpSeconds: GIVE_UP_SECONDS };
  for (let taken = BATCH; taken === BATCH && !signal.aborted; ) {
    const mails = await takeMails(options.db, terms);
    // All of them, whatever becomes of one: a run that ended early would let the others be sent twice.
    const results = await Promise.allSettled(mails.map((mail) => sendOne(options, mail)));
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
    taken = mails.length;
  }
}

async function sendOne(options: MailerOptions, mail: TakenMail): Promise<void> {
  const outcome = await attempt(options, mail);
  if (outcome.kind === "sent") await failpoint("mailer.after_send");
  await markMail(options.db, mail, outcome);
}

async function attempt({ send, mailing, linkBaseUrl, log }: MailerOptions, mail: TakenMail): Promise<MailOutcome> {
  const { id, kind, attempts, isLast } = mail;
  if (mail.isTokenOver || (mail.hasToken && !mailing.keys.has(mail.keyId))) {
    log.warn({ mail: id, kind }, "a mail was given up: its link is too old, or the key of it is gone");
    return { kind: "given_up" };
  }
  try {
    await send(messageOf(mail, mailing, linkBaseUrl));
    return { kind: "sent" };
  } catch (error) {
    const isOver = isLast || isRefusedForGood(error);
    const note = { mail: id, kind, attempts, ...answerOf(error) };
    log.warn(note, isOver ? "a mail was given up" : "a mail was not sent, will be tried again");
    if (isOver) return { kind: "given_up" };
    return { kind: "later", seconds: Math.min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS) };
  }
}

function messageOf(mail: TakenMail, { keys }: Mailing, linkBaseUrl: string): Message {
  const { id, kind, recipient: to, address, organizationName, createdAt: at } = mail;
  const link = mail.hasToken
    ? linkOf(kind, linkBaseUrl, tokenOf(keys, mail.keyId, id))
    : invitationLink(linkBaseUrl, id);
  return { id, to, ...textOf(kind, { address, at, link, organizationName }) };
}

/** What the log may know of it: a server's words could quote the address. */
function answerOf(error: unknown): { code?: string; command?: string; status?: number } {
  const { code, command, responseCode: status } = error as { code?: string; command?: string; responseCode?: number };
  return { code, command, status };
}

/**
 * The server wants neither this recipient nor this mail. That it does not know us is another matter, which may be
 * mended.
 */
function isRefusedForGood(error: unknown): boolean {
  const { command = "", status = 0 } = answerOf(error);
  return status >= 500 && (command === "RCPT TO" || command === "DATA");
}
