/** A stream of a person ends with the session that opened it: at once when that is told, within a second when it is not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { EmptySchema, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import { WhenStale as WhenStaleOption } from "../../gen/concierge/options/v1/access_pb.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import { allWays, openClient, type Way, wayName } from "../testing/clients.ts";
import { testService } from "../testing/contract.ts";
import { type Edge, type EdgeOptions, startEdge } from "../testing/edge.ts";
import { until } from "../testing/until.ts";
import type { WhenStale } from "../token/session-check.ts";

const types = { input: EmptySchema, output: EmptySchema, stream: "server" as const };
const service = testService("WatchService", {
  Watch: { ...types, access: { who: { case: "user", value: {} } } },
  Look: {
    ...types,
    access: { who: { case: "user", value: { whenStale: WhenStaleOption.UNTIL_EXPIRY } } },
    idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
  },
  Open: { ...types, access: { who: { case: "public", value: {} } } },
});
const overHttp2: Way = { protocol: "grpc", http: "2" };

type Kind = "watch" | "look" | "open";
type WatchClient = Record<Kind, (input: object) => AsyncIterable<unknown>>;

/** Streams that last until they are ended. */
function lasting() {
  const seen = { open: 0, ended: 0 };
  const last = async function* (_: unknown, { signal }: HandlerContext) {
    seen.open++;
    yield {};
    if (!signal.aborted) await once(signal, "abort");
    seen.ended++;
  };
  const implementation = { watch: last, look: last, open: last } as unknown as ServiceImpl<typeof service>;
  return { seen, implementations: [{ desc: service, implementation }] };
}

async function endOf(edge: Edge, way: Way, kind: Kind = "watch"): Promise<ConnectError> {
  using opened = openClient<WatchClient>(service, way, edge.url, [edge.bearer()]);
  try {
    for await (const _ of opened.client[kind]({}));
  } catch (thrown) {
    return ConnectError.from(thrown);
  }
  return assert.fail("it ended without an error");
}

function assertUnknown(error: ConnectError, what: string): void {
  const seen = [error.code, reasonOf(error), error.rawMessage];
  assert.deepEqual(seen, [Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated"], what);
}

/** Listeners by session, as a watch of sessions keeps them. */
function announcements() {
  const listeners = new Map<string, () => void>();
  const onSessionEnded: EdgeOptions["onSessionEnded"] = (sessionId, listener) => {
    listeners.set(sessionId, listener);
    return () => void listeners.delete(sessionId);
  };
  return { listeners, onSessionEnded };
}

const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;

describe("when the session of a stream ends", () => {
  test("it is refused at once, in every protocol, like a session that is not known", async () => {
    const { seen, implementations } = lasting();
    const { listeners, onSessionEnded } = announcements();
    await using edge = await startEdge({ implementations, onSessionEnded });
    const ends = allWays.map((way) => endOf(edge, way));
    await until("they are open", () => seen.open === allWays.length);
    const askedAt = performance.now();
    for (const listener of [...listeners.values()]) listener();
    for (const [index, end] of ends.entries()) assertUnknown(await end, wayName(allWays[index]!));
    assert.ok(performance.now() - askedAt < 900, "nothing waited for the next look");
    await until("nobody listens any more", () => listeners.size === 0 && seen.ended === seen.open);
    const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
    assert.deepEqual([line.reason, line.refusal], ["UNAUTHENTICATED", "session_ended"]);
  });

  test("only its own streams end", async () => {
    const { seen, implementations } = lasting();
    const { listeners, onSessionEnded } = announcements();
    const stopping = new AbortController();
    await using edge = await startEdge({ implementations, onSessionEnded, stopping: stopping.signal });
    const [first, second] = [endOf(edge, overHttp2), endOf(edge, overHttp2)];
    await until("they are open", () => seen.open === 2);
    [...listeners.values()][0]!();
    assertUnknown(await Promise.race([first, second]), "one of them");
    await until("one has ended", () => seen.ended === 1);
    stopping.abort(fail(Code.Unavailable, "DRAINING", "the server is stopping"));
    const reasons = [reasonOf(await first), reasonOf(await second)];
    assert.deepEqual(reasons.sort(), ["DRAINING", "UNAUTHENTICATED"]);
  });

  test("a look finds it, too", async () => {
    const { seen, implementations } = lasting();
    let live: boolean | Promise<boolean> = true;
    await using edge = await startEdge({ implementations, checkSession: () => live });
    for (const answer of [false, Promise.resolve(false)]) {
      live = true;
      const before = seen.open;
      const end = endOf(edge, overHttp2);
      await until("it is open", () => seen.open > before);
      live = answer;
      assertUnknown(await end, String(answer));
    }
  });
});

describe("while nobody can tell whether the session of a stream lives", () => {
  test("S-REF-16 it ends as UNAVAILABLE / AUTH_STALE, unless its method goes on; a stream without a person is not looked at", async () => {
    const { seen, implementations } = lasting();
    const asked: WhenStale[] = [];
    let isStale = false;
    const stale = () => Promise.reject(fail(Code.Unavailable, "AUTH_STALE", "the session could not be checked"));
    const checkSession: EdgeOptions["checkSession"] = (_, whenStale) => {
      asked.push(whenStale);
      return isStale && whenStale === "closed" ? stale() : true;
    };
    const stopping = new AbortController();
    await using edge = await startEdge({ implementations, checkSession, stopping: stopping.signal });
    const [watch, look, open] = (["watch", "look", "open"] as const).map((kind) => endOf(edge, overHttp2, kind));
    await until("they are open", () => seen.open === 3);
    isStale = true;
    const error = await watch!;
    assert.deepEqual([error.code, reasonOf(error)], [Code.Unavailable, "AUTH_STALE"]);
    const lookedAt = asked.length;
    await until("the other one was looked at again", () => asked.length > lookedAt + 1);
    assert.deepEqual(new Set(asked.slice(lookedAt + 1)), new Set(["until_expiry"]));
    assert.equal(seen.ended, 1);
    stopping.abort(fail(Code.Unavailable, "DRAINING", "the server is stopping"));
    assert.deepEqual([reasonOf(await look!), reasonOf(await open!)], ["DRAINING", "DRAINING"]);
  });

  test("a question that is still open is not asked again, and one timer does for all streams, while there are any", async () => {
    const { seen, implementations } = lasting();
    const question = Promise.withResolvers<boolean>();
    let isFresh = true;
    let hasDoubts = false;
    let asked = 0;
    // Asked ahead of time, it has to ask; a new call would be taken as long as what is known is fresh.
    const checkSession: EdgeOptions["checkSession"] = (_claims, _whenStale, leadMs) => {
      if (!hasDoubts || (isFresh && !leadMs)) return true;
      if (leadMs) asked++;
      return question.promise;
    };
    await using edge = await startEdge({ implementations, checkSession });
    const before = timers();
    const ends = Array.from({ length: 20 }, () => endOf(edge, overHttp2));
    await until("they are open", () => seen.open === 20);
    hasDoubts = true;
    await until("each was asked about", () => asked === 20);
    const waited = performance.now();
    await until("some more looks are over", () => performance.now() - waited > 1_200);
    assert.deepEqual([asked, seen.ended], [20, 0]);
    // Now a new call would have to wait for the answer: no stream goes on meanwhile.
    isFresh = false;
    for (const end of ends) {
      const error = await end;
      assert.deepEqual([error.code, reasonOf(error)], [Code.Unavailable, "AUTH_STALE"]);
    }
    await until("the timers are gone", () => timers() <= before + 1);
  });
});
