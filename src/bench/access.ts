/**
 * `make bench/access`: what it costs to ask what somebody may do. CheckPermission and VerifyToken over the internal listener beside
 * greeter's echo under the same generator (P3b), their latencies at 1,000 calls a second (G11), batches of a hundred checks, and the
 * same with 1,000,000 members of 10,000 organizations instead of 1,000 of 10 (P9; QUICK=1: 100,000 of 1,000). Ends with 1 if a goal is
 * missed.
 */
import http2 from "node:http2";
import { create, type DescMessage, type DescMethod, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { ISSUER, makeSessions, type Session } from "../prove/auth-sessions.ts";
import { Goals } from "../prove/figures.ts";
import type { Replica } from "../prove/replica.ts";
import { frameMessage } from "../testing/wire.ts";
import { signAccessToken } from "../token/access-token.ts";
import { messageDigest, SERVICE_TOKEN_HEADER, signServiceToken } from "../token/service-token.ts";
import { createSigner } from "../token/signing-keys.ts";
import { type AccessSetting, grow, openAccessSetting, type Person } from "./access-setting.ts";
import { machineMs } from "./feed-database.ts";
import { machineLine, median, quantile } from "./figures.ts";
import { saturate, sendAtRate, type Target } from "./load.ts";
import { recordRequests } from "./recorded-requests.ts";

const { QUICK } = process.env;
const SMALL_ORGANIZATIONS = 10;
const LARGE_ORGANIZATIONS = QUICK ? 1_000 : 10_000;
const PEOPLE = 500;
const ROUNDS = 3;
const ROUND_MS = 1_500;
const RATE = 1_000;
const COLD_QUESTIONS = 1_000;
const BATCHES = 300;
const LOAD = { connections: 4, callsPerConnection: 16, clock };

async function main(): Promise<number> {
  const goals = new Goals("access");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const setting = await openAccessSetting(opened);
  const few = await grow(setting, SMALL_ORGANIZATIONS);
  const small = await coldLatencies(setting, few);
  {
    await using replica = await setting.start();
    await measureWarm(goals, setting, replica, few.slice(0, PEOPLE));
  }
  const many = await grow(setting, LARGE_ORGANIZATIONS - SMALL_ORGANIZATIONS);
  const large = await coldLatencies(setting, many);
  const members = LARGE_ORGANIZATIONS * 100;
  for (const [name, tookMs] of Object.entries(large)) {
    const [before, after] = [quantile(small[name]!, 0.99), quantile(tookMs, 0.99)];
    const p99 = `p99 ${before.toFixed(2)} ms with 1,000 members, ${after.toFixed(2)} with ${members}`;
    const p50 = `p50 ${median(small[name]!).toFixed(2)} and ${median(tookMs).toFixed(2)}`;
    goals.ratioAtMost(`P9 ${name}, cold, with ${members} members/with 1,000`, after / before, 1.5, `${p99}; ${p50}`);
  }
  goals.info(`at the end: ${machineLine()}`);
  return goals.missed === 0 ? 0 : 1;
}

/** One after the other, each about somebody who was not asked about before, in a process that remembers nothing. */
async function coldLatencies(setting: AccessSetting, people: Person[]): Promise<Record<string, number[]>> {
  await using opened = new AsyncDisposableStack();
  const { internalUrl: baseUrl } = opened.use(await setting.start());
  const access = opened
    .use(connectService({ baseUrl, key: setting.keyOf("access"), clock }))
    .client(AccessInternalService);
  const check = (person: Person) => access.checkPermission({ ...person, permission: "product1:read" });
  const chosen = people.slice(0, COLD_QUESTIONS);
  // The code is compiled with others first.
  for (const person of chosen.slice(0, 200)) await check(person);
  const tookMs = [];
  for (const person of chosen.slice(200)) {
    const startMs = machineMs();
    await check(person);
    tookMs.push(machineMs() - startMs);
  }
  return { CheckPermission: tookMs };
}

async function measureWarm(goals: Goals, setting: AccessSetting, replica: Replica, people: Person[]): Promise<void> {
  const sessions = await makeSessionsOf(setting, people);
  const tokens = people.map((person, index) => tokenOf(setting, person, sessions[index]!));
  const targets: Record<string, () => Promise<Target>> = {
    echo: () => echoTarget(setting, replica, tokens),
    CheckPermission: () => {
      const messages = people.map((person) => ({ ...person, permission: "product1:read" }));
      return signedTarget(replica, setting.keyOf("access"), AccessInternalService.method.checkPermission, messages);
    },
    VerifyToken: () => {
      const messages = tokens.map((accessToken) => ({ accessToken }));
      return signedTarget(replica, setting.keyOf("auth"), AuthInternalService.method.verifyToken, messages);
    },
  };
  const rates: Record<string, number[]> = { echo: [], CheckPermission: [], VerifyToken: [] };
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, makeTarget] of Object.entries(targets)) {
      const { callsPerSecond } = await saturate(await makeTarget(), { ...LOAD, durationMs: ROUND_MS });
      // The first is for the compiler.
      if (round > 0) rates[name]!.push(callsPerSecond);
    }
  }
  for (const name of ["CheckPermission", "VerifyToken"]) {
    const ratios = rates[name]!.map((rate, round) => rate / rates.echo![round]!);
    const raw = `${text(rates[name]!)} a second, echo ${text(rates.echo!)}`;
    goals.atLeast(`P3b ${name}, share of the echo`, median(ratios), 0.8, raw);
    const { latenciesMs } = await sendAtRate(await targets[name]!(), RATE, { ...LOAD, durationMs: 5_000 });
    const p50 = `p50 ${quantile(latenciesMs, 0.5).toFixed(2)} ms`;
    goals.atMost(`G11 ${name} at ${RATE} a second, p99 ms`, quantile(latenciesMs, 0.99), 5, p50);
  }
  await measureBatches(goals, setting, replica, people);
}

async function measureBatches(
  goals: Goals,
  setting: AccessSetting,
  { internalUrl: baseUrl }: Replica,
  people: Person[],
) {
  using connection = connectService({ baseUrl, key: setting.keyOf("access"), clock });
  const access = connection.client(AccessInternalService);
  const checks = people.slice(0, 100).map((person) => ({ ...person, permission: "product1:read" }));
  const tookMs = [];
  for (let batch = 0; batch < BATCHES; batch++) {
    const startMs = machineMs();
    await access.batchCheckPermissions({ checks });
    tookMs.push(machineMs() - startMs);
  }
  goals.info(`batches of 100 checks: p50 ${median(tookMs).toFixed(2)} ms, p99 ${quantile(tookMs, 0.99).toFixed(2)}`);
}

/** Of accounts that are there, where people are members: sessions as makeSessions() puts them. */
async function makeSessionsOf({ sql, signingKeys }: AccessSetting, people: Person[]): Promise<Session[]> {
  const sessions = await makeSessions(sql.auth!, signingKeys, people.length);
  for (const [index, { userId }] of people.entries()) {
    const { sessionId } = sessions[index]!;
    await sql.auth!`update sessions set account_id = ${userId} where id = ${sessionId}`;
  }
  return sessions;
}

function tokenOf({ signingKeys }: AccessSetting, person: Person, { sessionId }: Session): string {
  const nowSeconds = Math.floor(clock.now() / 1_000);
  const times = { authenticatedAt: nowSeconds, expiresAt: nowSeconds + 300 };
  const claims = { ...person, sessionId, generation: 0, ...times };
  return signAccessToken(createSigner(signingKeys), { issuer: ISSUER, clock }, claims);
}

/** What everybody's call costs: the token of a person, and a service token beside it that nobody looks at. */
async function echoTarget(setting: AccessSetting, replica: Replica, tokens: string[]): Promise<Target> {
  const { sayHello } = GreeterService.method;
  const body = toBinary(sayHello.input, create(sayHello.input, { name: "Ann" }));
  const headers = tokens.map((token) => ({
    ...headersOf(sayHello, setting.keyOf("access"), body),
    authorization: `Bearer ${token}`,
  }));
  const requests = await recordRequests(headers, frameMessage(body));
  return { port: Number(new URL(replica.publicUrl).port), requests };
}

/** A call with each of these messages, signed just now, each for itself. */
async function signedTarget<Desc extends DescMessage>(
  replica: Replica,
  key: ServiceKey,
  method: DescMethod & { input: Desc },
  messages: MessageInitShape<Desc>[],
): Promise<Target> {
  const bodies = messages.map((message) => toBinary(method.input, create(method.input, message)));
  const headers = bodies.map((body) => headersOf(method, key, body));
  const requests = await recordRequests(
    headers,
    bodies.map((body) => frameMessage(body)),
  );
  return { port: Number(new URL(replica.internalUrl).port), requests };
}

function headersOf({ parent, name }: DescMethod, key: ServiceKey, body: Uint8Array) {
  const path = `/${parent.typeName}/${name}`;
  return {
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": "concierge.example.com",
    "content-type": "application/grpc",
    te: "trailers",
    "user-agent": "concierge-bench",
    "grpc-timeout": "5S",
    [SERVICE_TOKEN_HEADER]: signServiceToken(key, path, messageDigest(body), clock),
    // Spelt out in each request: what goes into the table of one would be missing when they are sent in another order.
    [http2.sensitiveHeaders]: [SERVICE_TOKEN_HEADER],
  };
}

function text(rates: number[]): string {
  return rates.map((rate) => rate.toFixed(0)).join(" ");
}

process.exitCode = await main();
