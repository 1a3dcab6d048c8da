/**
 * Passwords: argon2id with OWASP's parameters, never shortened or folded. Only Unicode's normal form C is applied, so that
 * the same text typed on two systems is the same password. Hashing is bounded: as many at a time as there are cores, a
 * short queue behind them, and a clear answer beyond it.
 */
import { availableParallelism } from "node:os";
import { hash, needsRehash, verify } from "argon2";
import { Code, fail } from "../../errors.ts";

/** 19 MiB, two passes, one lane. A hash made with less is made anew at the next login. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const MAX_BYTES = 1024;
const RETRY_AFTER_MS = 1_000;

export interface Passwords {
  /** Hashes a new password. Refuses one that is too short or too long. */
  hash(password: string, signal: AbortSignal): Promise<string>;
  /**
   * Whether the password fits the hash. Without a hash it works as long and answers false, so that nobody learns from the
   * time taken whether an account exists.
   */
  verify(passwordHash: string | undefined, password: string, signal: AbortSignal): Promise<boolean>;
  /** Hashes a password that was just verified, with today's parameters; its length is not judged again. */
  rehash(password: string, signal: AbortSignal): Promise<string>;
  /** True for a hash that was made with weaker parameters than today's. */
  isOutdated(passwordHash: string): boolean;
  /** Passwords that wait to be hashed. */
  queueLength(): number;
}

export async function createPasswords(options: { minLength: number; queueLength: number }): Promise<Passwords> {
  const pool = createPool(availableParallelism(), options.queueLength);
  const nobodysHash = await hash(crypto.randomUUID(), PARAMETERS);
  return {
    hash(password, signal) {
      const text = normalize(password);
      if ([...text].length < options.minLength) {
        const message = `the password must have at least ${options.minLength} characters`;
        throw fail(Code.InvalidArgument, "PASSWORD_TOO_SHORT", message);
      }
      if (Buffer.byteLength(text) > MAX_BYTES) {
        throw fail(Code.InvalidArgument, "PASSWORD_TOO_LONG", `the password must have at most ${MAX_BYTES} bytes`);
      }
      return pool.run(() => hash(text, PARAMETERS), signal);
    },
    async verify(passwordHash, password, signal) {
      const fits = await pool.run(() => verify(passwordHash ?? nobodysHash, normalize(password)), signal);
      return passwordHash !== undefined && fits;
    },
    rehash: (password, signal) => pool.run(() => hash(normalize(password), PARAMETERS), signal),
    isOutdated: (passwordHash) => needsRehash(passwordHash, PARAMETERS),
    queueLength: pool.queueLength,
  };
}

function normalize(password: string): string {
  return password.normalize("NFC");
}

/** Runs at most `width` tasks at a time and lets at most `queueLength` wait; a waiting call that ends early leaves. */
function createPool(width: number, maxQueueLength: number) {
  let running = 0;
  const waiting = new Set<() => void>();

  async function enter(signal: AbortSignal): Promise<void> {
    if (running < width) {
      running += 1;
      return;
    }
    if (waiting.size >= maxQueueLength) {
      const message = "too many passwords are being checked, try again";
      throw fail(Code.ResourceExhausted, "TOO_MANY_HASHES", message, { retryAfterMs: RETRY_AFTER_MS });
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => {
      waiting.delete(resolve);
      reject(signal.reason);
    };
    waiting.add(resolve);
    signal.addEventListener("abort", leave, { once: true });
    await promise.finally(() => signal.removeEventListener("abort", leave));
  }

  /** Hands the place to who has waited longest. */
  function exit(): void {
    const [next] = waiting;
    if (!next) {
      running -= 1;
      return;
    }
    waiting.delete(next);
    next();
  }

  async function run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    await enter(signal);
    try {
      return await task();
    } finally {
      exit();
    }
  }

  return { run, queueLength: () => waiting.size };
}
