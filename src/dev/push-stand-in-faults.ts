/**
 * How the push stand-in fails on demand: by the prefix of a registration token, which anybody who registers a device can
 * choose, or by faults that were ordered (`PUT /faults`) and meet every token, a share of the pushes, or so many of them.
 * What was ordered goes before what a prefix asks for, and of what was ordered the first that fits.
 *
 * | fault | effect | prefix |
 * |---|---|---|
 * | `unregistered` | 404 UNREGISTERED: the app was removed from the device | `unregistered-` |
 * | `invalid` | 400 INVALID_ARGUMENT: not a registration token | `invalid-` |
 * | `sender-mismatch` | 403 SENDER_ID_MISMATCH: the token belongs to another project | `sender-mismatch-` |
 * | `quota` | 429 QUOTA_EXCEEDED with Retry-After (30 s unless told otherwise) | `quota-[seconds-]` |
 * | `unavailable` | 503 UNAVAILABLE, with Retry-After where it is told | `unavailable-[seconds-]` |
 * | `internal` | 500 INTERNAL | `internal-` |
 * | `apns` | 401 THIRD_PARTY_AUTH_ERROR: the project's APNs certificate is missing | `apns-` |
 * | `slow` | accepted, answered late (1,000 ms unless told otherwise) | `slow-[milliseconds-]` |
 * | `dropped` | accepted, and the connection is cut instead of an answer | `dropped-` |
 * | `key-refused` | the service account's key was revoked: no bearer token any more, and those there are count no more | – |
 * | `key-unavailable` | the token endpoint answers 503 | – |
 *
 * The prefix `flaky-[tries-]` is `internal` for the first tries (1) of this very token.
 */
import { z } from "zod";
import { type Answer, fcmError, invalidArgument, unauthenticated } from "./push-stand-in-message.ts";

const REFUSING = ["unregistered", "invalid", "sender-mismatch", "quota", "unavailable", "internal", "apns"] as const;
const ACCEPTING = ["slow", "dropped"] as const;
const OF_KEY = ["key-refused", "key-unavailable"] as const;
const FAULTY_TOKEN = new RegExp(`^(${[...REFUSING, ...ACCEPTING, "flaky"].join("|")})-(?:(\\d{1,6})-)?`);

const DEFAULT_RETRY_AFTER_SECONDS = 30;
const DEFAULT_DELAY_MS = 1_000;
const MOST_ORDERED = 100;

/** What `PUT /faults` takes. */
export const orderedFaults = z
  .array(
    z.strictObject({
      fault: z.enum([...REFUSING, ...ACCEPTING, ...OF_KEY]),
      /** Only for this registration token; for all when not given. */
      token: z.string().min(1).max(4096).optional(),
      /** The share of pushes that it meets, spread evenly: 0.5 is every second one. */
      share: z.number().gt(0).max(1).default(1),
      /** After so many it is over; never when not given. */
      times: z.int().min(1).optional(),
      /** For `quota` and `unavailable`. */
      retryAfterSeconds: z.int().min(0).max(86_400).optional(),
      /** For `slow`. */
      delayMs: z.int().min(0).max(600_000).optional(),
    }),
  )
  .max(MOST_ORDERED);

type OrderedFault = z.output<typeof orderedFaults>[number];
type FaultName = OrderedFault["fault"];

/** What becomes of a push. Exactly one of the fields is set, or none where nothing is wrong. */
export interface Effect {
  /** Refuse with this. */
  refusal?: Answer;
  /** Accept, but answer only after so many milliseconds. */
  delayMs?: number;
  /** Accept, then cut the connection instead of answering: the sender cannot know. */
  dropAnswer?: boolean;
}

/** The faults of one stand-in, which counts whom they have met. */
export class Faults {
  #ordered: { order: OrderedFault; hits: number; due: number }[] = [];
  readonly #triesOfFlaky = new Map<string, number>();

  /** Replaces all that were ordered before. */
  order(orders: OrderedFault[]): void {
    this.#ordered = orders.map((order) => ({ order, hits: 0, due: 0 }));
  }

  /** What was ordered, each with how often it has happened. */
  list(): (OrderedFault & { hits: number })[] {
    return this.#ordered.map(({ order, hits }) => ({ ...order, hits }));
  }

  /** What becomes of this push to a device, which counts as a try. */
  ofPush(token: string): Effect {
    const order = this.#next(({ fault, token: only }) => {
      return fault !== "key-unavailable" && (only === undefined || only === token);
    });
    return order ? effectOf(order.fault, order) : this.#ofPrefix(token);
  }

  /** How the token endpoint refuses the key, or undefined if it does not. */
  ofKey(): Answer | undefined {
    const order = this.#next(({ fault }) => OF_KEY.some((name) => name === fault));
    if (!order) return undefined;
    if (order.fault === "key-unavailable") return { status: 503, body: { error: "internal_failure" } };
    return { status: 400, body: { error: "invalid_grant", error_description: "Invalid JWT Signature." } };
  }

  /** The first order that fits and whose turn it is. */
  #next(fits: (order: OrderedFault) => boolean): OrderedFault | undefined {
    for (const entry of this.#ordered) {
      const { order } = entry;
      if (!fits(order) || entry.hits === order.times) continue;
      entry.due += order.share;
      if (entry.due < 1) continue;
      entry.due -= 1;
      entry.hits += 1;
      return order;
    }
    return undefined;
  }

  #ofPrefix(token: string): Effect {
    const [, name, digits] = FAULTY_TOKEN.exec(token) ?? [];
    if (name === undefined) return {};
    const parameter = digits === undefined ? undefined : Number(digits);
    if (name !== "flaky") return effectOf(name as FaultName, { retryAfterSeconds: parameter, delayMs: parameter });
    const earlier = this.#triesOfFlaky.get(token) ?? 0;
    this.#triesOfFlaky.set(token, earlier + 1);
    return earlier < (parameter ?? 1) ? effectOf("internal", {}) : {};
  }
}

function effectOf(
  fault: FaultName,
  { retryAfterSeconds, delayMs }: Pick<OrderedFault, "retryAfterSeconds" | "delayMs">,
): Effect {
  switch (fault) {
    case "slow":
      return { delayMs: delayMs ?? DEFAULT_DELAY_MS };
    case "dropped":
      return { dropAnswer: true };
    default:
      return { refusal: refusalOf(fault, retryAfterSeconds) };
  }
}

function refusalOf(fault: Exclude<FaultName, "slow" | "dropped">, retryAfterSeconds: number | undefined): Answer {
  switch (fault) {
    case "unregistered":
      return fcmError(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found.");
    case "invalid":
      return invalidArgument("The registration token is not a valid FCM registration token");
    case "sender-mismatch":
      return fcmError(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch");
    case "quota": {
      const answer = fcmError(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded.");
      return retryAfter(answer, retryAfterSeconds ?? DEFAULT_RETRY_AFTER_SECONDS);
    }
    case "unavailable":
      return retryAfter(fcmError(503, "UNAVAILABLE", "UNAVAILABLE", "The service is unavailable."), retryAfterSeconds);
    case "internal":
      return fcmError(500, "INTERNAL", "INTERNAL", "Internal error encountered.");
    case "apns": {
      const message = "Auth error from APNS or Web Push Service";
      return fcmError(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", message);
    }
    case "key-refused":
    case "key-unavailable":
      return unauthenticated();
  }
}

function retryAfter(answer: Answer, seconds: number | undefined): Answer {
  return seconds === undefined ? answer : { ...answer, headers: { "retry-after": String(seconds) } };
}
