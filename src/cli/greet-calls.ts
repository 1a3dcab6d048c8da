/** What `concierge greet` calls: the four patterns with what each must answer, and the proof that a token ends. */
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import type { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import type { Clock } from "../clock.ts";
import { formatCompact, parseCompact } from "../token/compact.ts";
import { createSigner, type KeySet } from "../token/signing-keys.ts";
import { describeRefusal } from "./answers.ts";

type Greeter = Client<typeof GreeterService>;

export interface Pattern {
  method: string;
  /** Makes the call. Resolves to what was answered; fails if that is not what greeter should say. */
  call(client: Greeter, options: CallOptions): Promise<string>;
}

const NAME = "Ann";
const NAMES = ["Ann", "Bob", "Cleo"];
const MAX_TOKEN_LENGTH = 4096;

export const patterns: Pattern[] = [
  {
    method: "SayHello",
    async call(client, options) {
      const { message } = await client.sayHello({ name: NAME }, options);
      return expect(["Hello, Ann!"], [message]);
    },
  },
  {
    method: "SayHelloStream",
    async call(client, options) {
      const greetings: string[] = [];
      for await (const { number, message } of client.sayHelloStream({ name: NAME, count: 3 }, options)) {
        greetings.push(`${number} ${message}`);
      }
      return expect(["1 Hello, Ann!", "2 Hello, Ann!", "3 Hello, Ann!"], greetings);
    },
  },
  {
    method: "SayHelloClientStream",
    async call(client, options) {
      const { message } = await client.sayHelloClientStream(saying(NAMES), options);
      return expect(["Hello, Ann, Bob, and Cleo!"], [message]);
    },
  },
  {
    method: "SayHelloBidirectional",
    async call(client, options) {
      return expect(["Hello, Ann!", "Hello, Bob!", "Hello, Cleo!"], await converse(client, options));
    },
  },
];

async function* saying(names: string[]) {
  for (const name of names) yield { name };
}

/** Says each name only when the one before was greeted, so that a server which waits for all of them answers nothing. */
async function converse(client: Greeter, options: CallOptions): Promise<string[]> {
  const greetings: string[] = [];
  let greeted = Promise.withResolvers<void>();
  async function* say() {
    for (const name of NAMES) {
      greeted = Promise.withResolvers();
      yield { name };
      await greeted.promise;
    }
  }
  for await (const { message } of client.sayHelloBidirectional(say(), options)) {
    greetings.push(message);
    greeted.resolve();
  }
  return greetings;
}

/** A token for the same session twice: one that ends in a minute, and one that ended a minute ago. */
export interface TokenPair {
  live: string;
  expired: string;
}

/** Signs both with these keys. They differ in nothing else, so what refuses only one of them looks at the time. */
export function expiringPair(token: string, keys: KeySet, clock: Clock): TokenPair {
  const parsed = parseCompact(token, MAX_TOKEN_LENGTH);
  if (typeof parsed === "string") throw new Error("what auth gave is no access token");
  const signer = createSigner(keys);
  const header = { ...parsed.header, alg: signer.alg, kid: signer.kid };
  const nowSeconds = Math.floor(clock.now() / 1000);
  const endingIn = (seconds: number) =>
    formatCompact(header, { ...parsed.claims, iat: nowSeconds - 120, exp: nowSeconds + seconds }, signer.sign);
  return { live: endingIn(60), expired: endingIn(-60) };
}

/** Shows that the expired token is refused where the live one is accepted. */
export async function refuseExpired(
  client: Greeter,
  { live, expired }: TokenPair,
  optionsFor: (token: string) => CallOptions,
): Promise<string> {
  await client.sayHello({ name: NAME }, optionsFor(live));
  const refusal = await client.sayHello({ name: NAME }, optionsFor(expired)).catch((error: unknown) => error);
  if (refusal instanceof ConnectError && refusal.code === Code.Unauthenticated) return describeRefusal(refusal);
  throw refusal instanceof Error ? refusal : new Error("a token that has expired was accepted");
}

function expect(wanted: string[], got: string[]): string {
  const [is, should] = [got, wanted].map((texts) => texts.join(" "));
  if (is === should) return is!;
  throw new Error(`the answer is "${is}", and should be "${should}"`);
}
