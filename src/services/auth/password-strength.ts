/**
 * How easily a new password is guessed. zxcvbn needs up to a tenth of a second for a long one and a third to load its
 * dictionaries, so it works in a thread of its own, which starts with the first password, behind a bounded queue.
 */
import { once } from "node:events";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { Code, fail } from "../../errors.ts";
import { createPasswordQueue, type PasswordQueue } from "./password-queue.ts";

/** What the thread is asked. All texts are in normal form C. */
export interface StrengthQuestion {
  password: string;
  /** Texts whose words do not make a password stronger. */
  knownTexts: string[];
}

/** What the thread answers. */
export interface StrengthAnswer {
  /** It is on the list of common passwords, or nothing but known words. */
  isCommon: boolean;
  /** zxcvbn's, 0 to 4. */
  score: number;
}

const PRODUCT = "concierge";
/** The dictionaries take 60 MB; without limits the garbage of some thirty passwords would stay beside them for good. */
const MEMORY = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 160 };
const WORKER_FILE = new URL(`./password-strength-worker${extname(import.meta.filename)}`, import.meta.url);

/** Judges passwords until it is disposed. */
export class PasswordJudge implements AsyncDisposable {
  readonly #minScore: number;
  readonly #blockedWords: readonly string[];
  readonly #queue: PasswordQueue;
  #worker: Worker | undefined;
  #isDisposed = false;

  constructor(options: { minScore: number; blockedWords: readonly string[]; queueLength: number }) {
    this.#minScore = options.minScore;
    this.#blockedWords = options.blockedWords;
    this.#queue = createPasswordQueue({
      width: 1,
      maxLength: options.queueLength,
      longestWaitMs: Number.POSITIVE_INFINITY,
    });
  }

  /**
   * Refuses a password that is easy to guess. `ownWords`: what others know of the person. INVALID_ARGUMENT / PASSWORD_COMPROMISED,
   * INVALID_ARGUMENT / PASSWORD_TOO_WEAK, RESOURCE_EXHAUSTED / TOO_MANY_HASHES.
   */
  async require(password: string, ownWords: readonly string[], signal: AbortSignal): Promise<void> {
    const knownTexts = [PRODUCT, ...this.#blockedWords, ...ownWords];
    const { isCommon, score } = await this.#queue.run(() => this.#ask({ password, knownTexts }), signal);
    if (isCommon) {
      const message = "the password is one of those that are tried first, choose another";
      throw fail(Code.InvalidArgument, "PASSWORD_COMPROMISED", message);
    }
    if (score < this.#minScore) {
      const message = "the password is too easy to guess, make it longer or less regular";
      throw fail(Code.InvalidArgument, "PASSWORD_TOO_WEAK", message);
    }
  }

  queueLength(): number {
    return this.#queue.length();
  }

  /** One question at a time: the next message is its answer. */
  async #ask(question: StrengthQuestion): Promise<StrengthAnswer> {
    if (this.#isDisposed) throw new Error("passwords are not judged any more");
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const answered = new AbortController();
    const ended = once(worker, "exit", answered).then(() => {
      throw new Error("the thread that judges passwords has ended");
    });
    try {
      worker.postMessage(question);
      const [answer] = await Promise.race([once(worker, "message", answered), ended]);
      return answer;
    } finally {
      answered.abort();
    }
  }

  #start(): Worker {
    const worker = new Worker(WORKER_FILE, { resourceLimits: MEMORY });
    const forget = () => {
      if (this.#worker === worker) this.#worker = undefined;
    };
    // Whoever asks is told of an error, too; the next one gets a new thread.
    return worker.on("error", forget).on("exit", forget);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    await this.#worker?.terminate();
  }
}
