/**
 * Passwords: judged when they are new, hashed, verified; never shortened or folded. Only Unicode's normal form C is applied, so
 * that the same text typed on two systems is the same password. Hashing is bounded: as many at a time as there are cores, a
 * short queue behind them, and a clear answer beyond it.
 */
import { availableParallelism } from "node:os";
import { Code, fail } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import { fitsHash, formOf, hashOfPassword, isOutdatedHash } from "./password-hashes.ts";
import { createPasswordQueue } from "./password-queue.ts";
import { PasswordJudge } from "./password-strength.ts";

const MAX_BYTES = 1024;
/** Normal form C makes of at most four characters one, so what is longer is too long in any form. */
const MAX_LENGTH = 4 * MAX_BYTES;
/** Most callers give up after five seconds or ten. */
const LONGEST_WAIT_MS = 4_000;

export interface PasswordOptions {
  /** Fewest code points of a new password. */
  minLength: number;
  /** Least score of a new password, 0 to 4 as zxcvbn has it. */
  minScore: number;
  /** Words beside the product's name that no new password may rest on. */
  blockedWords: readonly string[];
  /** Most passwords that wait to be hashed, and that wait to be judged. */
  queueLength: number;
  log: Pick<Logger, "error">;
}

export interface Passwords extends AsyncDisposable {
  /**
   * Hashes a new password. `ownWords`: e-mail address and names of the person, on which it may not rest. INVALID_ARGUMENT /
   * PASSWORD_TOO_SHORT, PASSWORD_TOO_LONG, PASSWORD_COMPROMISED or PASSWORD_TOO_WEAK, RESOURCE_EXHAUSTED / TOO_MANY_HASHES.
   */
  hash(password: string, ownWords: readonly string[], signal: AbortSignal): Promise<string>;
  /**
   * Whether the password fits the hash. Without a hash, and with one that nobody can read, it works as long as with one of ours and
   * answers false, so that nobody learns from the time taken whether an account exists.
   */
  verify(passwordHash: string | undefined, password: string, signal: AbortSignal): Promise<boolean>;
  /** Hashes a password that was just verified, with today's parameters; it is not judged again. */
  rehash(password: string, signal: AbortSignal): Promise<string>;
  /** True for a hash that is to be made anew: of bcrypt, or with other parameters than today's. */
  isOutdated(passwordHash: string): boolean;
  /** Passwords that wait to be hashed. */
  queueLength(): number;
  /** Passwords that wait to be judged. */
  judgeQueueLength(): number;
}

export async function createPasswords(options: PasswordOptions): Promise<Passwords> {
  const { minLength, queueLength, log } = options;
  const width = availableParallelism();
  const queue = createPasswordQueue({ width, maxLength: queueLength, longestWaitMs: LONGEST_WAIT_MS });
  const judge = new PasswordJudge(options);
  const nobodysHash = await hashOfPassword(crypto.randomUUID());
  let saysUnreadable = true;

  function isReadable(passwordHash: string): boolean {
    const form = formOf(passwordHash);
    if (form === "argon2id" || form === "bcrypt") return true;
    // Once: whoever knows such an account's address could fill the log.
    if (saysUnreadable) log.error({ form }, "a stored password hash cannot be used, so its owner cannot log in");
    saysUnreadable = false;
    return false;
  }

  return {
    async hash(password, ownWords, signal) {
      const text = requireLength(password, minLength);
      await judge.require(text, ownWords.map(normalize), signal);
      return queue.run(() => hashOfPassword(text), signal);
    },
    async verify(passwordHash, password, signal) {
      const readable = passwordHash !== undefined && isReadable(passwordHash) ? passwordHash : undefined;
      const fits = await queue.run(() => fitsHash(readable ?? nobodysHash, normalize(password)), signal);
      return readable !== undefined && fits;
    },
    rehash: (password, signal) => queue.run(() => hashOfPassword(normalize(password)), signal),
    isOutdated: isOutdatedHash,
    queueLength: queue.length,
    judgeQueueLength: () => judge.queueLength(),
    [Symbol.asyncDispose]: () => judge[Symbol.asyncDispose](),
  };
}

/** A new password in the form that is hashed, if its length is right. */
function requireLength(password: string, minLength: number): string {
  if (password.length > MAX_LENGTH) throw tooLong();
  const text = normalize(password);
  if ([...text].length < minLength) {
    const message = `the password must have at least ${minLength} characters`;
    throw fail(Code.InvalidArgument, "PASSWORD_TOO_SHORT", message);
  }
  if (Buffer.byteLength(text) > MAX_BYTES) throw tooLong();
  return text;
}

function tooLong() {
  return fail(Code.InvalidArgument, "PASSWORD_TOO_LONG", `the password must have at most ${MAX_BYTES} bytes`);
}

function normalize(text: string): string {
  return text.normalize("NFC");
}
