/**
 * `make prove/goaway`: connections that end, in every way there is, at the moment at which our client asks its peer whether
 * it is still there, or gives it up: 10,000 times (FULL=1: 100,000). Nothing of it may throw out of a timer, where it would
 * end the process, and no call may hang.
 */
import { errorMonitor, once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { LiveConnection } from "../client/live-connection.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { type Code, reasonOf } from "../errors.ts";
import { FrameType, http2Frame, settingsAck } from "../testing/http2-frames.ts";
import { createServiceKey } from "../token/key-making.ts";
import { Goals } from "./figures.ts";

const CYCLES = process.env.FULL ? 100_000 : 10_000;
const AT_ONCE = 32;
/** A call is given up after this; the peer ends the connection at a random moment around it. */
const CALL_MS = 6;
const PONG_TIMEOUT_MS = 4;
const MAX_END_MS = 12;
/** So many of the cycles must have had each of the ends. */
const MIN_SHARE = 0.05;
/** Far beyond what a cycle takes. */
const HANG_MS = 20_000;

const key = createServiceKey("user", "auth", "service");
const userId = "0198c5a0-0000-7000-8000-000000000000";
const faults: string[] = [];
/** Connections that lived when their peer ended them: one that answers pings, and one that does not. */
const ended = { answering: 0, mute: 0 };
for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: Error) => void faults.push(`${event}: ${error.stack ?? error}`));
}

type AskOutcome = "given up" | "ended" | "lived";
type End = (session: http2.ServerHttp2Session) => void;
const { constants } = http2;
const ends: End[] = [
  (session) => session.goaway(constants.NGHTTP2_NO_ERROR),
  (session) => session.goaway(constants.NGHTTP2_INTERNAL_ERROR),
  (session) => session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, Buffer.from("too_many_pings")),
  (session) => session.close(),
  (session) => session.destroy(),
  (session) => session.destroy(undefined, constants.NGHTTP2_PROTOCOL_ERROR),
  (session) => void session.socket.destroy(),
  (session) => void session.socket.resetAndDestroy(),
];

/** The same as bytes of a peer that answers nothing, pings least of all. */
const goAway = (code: number) =>
  http2Frame(FrameType.goAway, 0, 0, Buffer.from([0, 0, 0, 0, ...Buffer.from([0, 0, 0, code])]));
const waitForClient = () => {}; // its own giving up ends it
const muteEnds: ((socket: net.Socket) => void)[] = [
  (socket) => void socket.write(goAway(constants.NGHTTP2_NO_ERROR)),
  (socket) => void socket.write(goAway(constants.NGHTTP2_INTERNAL_ERROR)),
  (socket) => void socket.end(goAway(constants.NGHTTP2_NO_ERROR)),
  (socket) => void socket.end(),
  (socket) => void socket.destroy(),
  (socket) => void socket.resetAndDestroy(),
  waitForClient,
];

function pick<T>(from: readonly T[]): T {
  return from[Math.floor(Math.random() * from.length)]!;
}

async function listening(server: net.Server | http2.Http2Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return ((server as net.Server).address() as net.AddressInfo).port;
}

/** Holds the first call of every connection, and ends the connection around the moment at which that is given up. */
function createHoldingServer(): http2.Http2Server {
  const server = http2.createServer();
  server.on("session", (session) => {
    session.on("error", () => {});
    const end = pick(ends);
    setTimeout(() => {
      if (session.destroyed) return;
      ended.answering++;
      end(session);
    }, Math.random() * MAX_END_MS);
    session.on("stream", (stream) => stream.on("error", () => {}));
  });
  return server;
}

/** A TCP server that says that it speaks HTTP/2, and then nothing. */
function createMuteServer(): net.Server {
  return net.createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => {}).resume();
    socket.write(Buffer.concat([http2Frame(FrameType.settings, 0, 0), settingsAck]));
    const end = pick(muteEnds);
    setTimeout(() => {
      if (socket.destroyed) return;
      if (end !== waitForClient) ended.mute++;
      end(socket);
    }, Math.random() * MAX_END_MS);
  });
}

/** One call through the whole client. Resolves with how it ended. */
async function callOnce(port: number): Promise<string> {
  using connection = connectService({ baseUrl: `http://127.0.0.1:${port}`, key, clock: systemClock });
  const client = connection.client(AuthInternalService);
  const call = () =>
    client.getAccount({ userId }, { timeoutMs: CALL_MS }).then(
      () => "answered",
      (error: { code?: Code }) => reasonOf(error) ?? `code ${error.code}`,
    );
  const first = await Promise.all([call(), call()]);
  // A moment for the ping that follows, and a call over whatever connection there is then.
  await delay(Math.random() * CALL_MS);
  const last = await call();
  return [...first, last].find((outcome) => outcome !== "DEPENDENCY_UNAVAILABLE") ?? "DEPENDENCY_UNAVAILABLE";
}

/**
 * Streams over a connection whose peer answers no ping: the timer of the client's patience fires as it ends. Resolves with
 * whether a connection was given up, or else ended, or else lived to the end of the cycle.
 */
async function askOnce(port: number): Promise<AskOutcome> {
  let outcome: AskOutcome = "lived";
  using connection = new LiveConnection(`http://127.0.0.1:${port}`, {}, { pongTimeoutMs: PONG_TIMEOUT_MS });
  for (let round = 0; round < 2; round++) {
    try {
      const stream = await connection.request("POST", "/", {}, {});
      stream.on("error", () => {});
      // Only watched: whoever listened to the error itself would hide that nobody else does.
      stream.session?.once(errorMonitor, (error) => {
        if (error.message.includes("the peer does not answer")) outcome = "given up";
      });
      stream.session?.once("close", () => {
        if (outcome === "lived") outcome = "ended";
      });
      const closed = new Promise((resolve) => stream.once("close", resolve));
      setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), Math.random() * CALL_MS);
      await closed;
    } catch {
      // It had ended before the stream began.
      if (outcome === "lived") outcome = "ended";
    }
    await delay(Math.random() * 2 * PONG_TIMEOUT_MS);
  }
  return outcome;
}

async function main(): Promise<number> {
  const goals = new Goals("goaway");
  await using opened = new AsyncDisposableStack();
  const [holding, mute] = [createHoldingServer(), createMuteServer()];
  for (const server of [holding, mute]) opened.defer(() => void server.close());
  const [holdingPort, mutePort] = [await listening(holding), await listening(mute)];
  const outcomes = new Map<string, number>();
  let cycles = 0;
  const work = async () => {
    while (cycles < CYCLES) {
      const index = cycles++;
      const cycle = index % 2 === 0 ? callOnce(holdingPort) : askOnce(mutePort);
      const outcome = await Promise.race([cycle, delay(HANG_MS, "hangs", { ref: false })]);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const count = (outcome: string) => outcomes.get(outcome) ?? 0;
  const expected = ["DEPENDENCY_UNAVAILABLE", "given up", "ended", "lived"];
  const asExpected = expected.reduce((sum, outcome) => sum + count(outcome), 0);
  for (const [outcome, times] of outcomes) goals.info(`${times} x ${outcome}`);
  for (const fault of faults.slice(0, 5)) goals.info(fault);
  goals.atLeast("R-DEP-05 connections ended by a peer that answers", ended.answering, CYCLES * MIN_SHARE);
  goals.atLeast("R-DEP-05 connections ended by a peer that is mute", ended.mute, CYCLES * MIN_SHARE);
  goals.atLeast("R-DEP-05 connections that the client gave up", count("given up"), CYCLES * MIN_SHARE);
  goals.atMost("R-DEP-05 exceptions that would end the process", faults.length, 0);
  goals.atMost("R-DEP-05 calls that hung or ended otherwise", cycles - asExpected, 0);
  return goals.missed === 0 ? 0 : 1;
}

process.exitCode = await main();
