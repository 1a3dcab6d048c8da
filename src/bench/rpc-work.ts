/** The work of `make bench/rpc`: a thousand people with their access tokens, and the calls that they make, as bytes. */
import type http2 from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { v7 as uuidv7 } from "uuid";
import { SayHelloRequestSchema, SayHelloResponseSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import type { Clock } from "../clock.ts";
import { frameMessage } from "../testing/wire.ts";
import { type AccessTokenOptions, signAccessToken } from "../token/access-token.ts";
import { createSigningKeys } from "../token/key-making.ts";
import { createSigner, publicKeySet } from "../token/signing-keys.ts";
import { type RecordedRequests, recordRequests } from "./recorded-requests.ts";
import { greeting, ISSUER, PROCEDURE, type Task } from "./rpc-servers/task.ts";

const TOKENS = 1_000;
const TOKEN_LIFE_SECONDS = 3_600;
const NAME = "Ann";

/** One token with every call, or all of them in rotation. */
export const TOKEN_USES = ["one-token", "1000-tokens"] as const;
export type TokenUse = (typeof TOKEN_USES)[number];

export interface Work {
  task: Task;
  requests: Record<TokenUse, RecordedRequests>;
  /** The message of an answer, with gRPC's prefix. */
  answer: Buffer;
  /** Good for the task's sessions. */
  token: string;
  /** As good, but for a session that does not live. */
  deadToken: string;
}

export async function makeWork(clock: Clock): Promise<Work> {
  const keys = await createSigningKeys("ES256");
  const options: AccessTokenOptions = { issuer: ISSUER, clock };
  const seconds = Math.floor(clock.now() / 1000);
  const tokenOf = (sessionId: string) => {
    const life = { authenticatedAt: seconds, expiresAt: seconds + TOKEN_LIFE_SECONDS };
    return signAccessToken(createSigner(keys), options, { userId: uuidv7(), sessionId, generation: 0, ...life });
  };
  const sessionIds = Array.from({ length: TOKENS }, () => uuidv7());
  const tokens = sessionIds.map(tokenOf);
  const message = frameMessage(toBinary(SayHelloRequestSchema, create(SayHelloRequestSchema, { name: NAME })));
  const greeted = create(SayHelloResponseSchema, { message: greeting(NAME) });
  const answer = frameMessage(toBinary(SayHelloResponseSchema, greeted));
  const requestsWith = (some: string[]) => recordRequests(some.map(requestHeaders), message);
  return {
    task: { keys: publicKeySet(keys), sessionIds, name: NAME, answer },
    requests: { "one-token": await requestsWith(tokens.slice(0, 1)), "1000-tokens": await requestsWith(tokens) },
    answer,
    token: tokens[0]!,
    deadToken: tokenOf(uuidv7()),
  };
}

/** What an ordinary client sends. */
function requestHeaders(token: string): http2.OutgoingHttpHeaders {
  return {
    ":method": "POST",
    ":scheme": "http",
    ":path": PROCEDURE,
    ":authority": "greeter.example.com",
    "content-type": "application/grpc",
    te: "trailers",
    "user-agent": "concierge-bench",
    "grpc-timeout": "5S",
    authorization: `Bearer ${token}`,
  };
}
