/** The feed as others read it: over RPC, with a service token, and no more than the contract lets them have. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { file_google_protobuf_duration } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { file_concierge_access_v1_access_events } from "../../gen/concierge/access/v1/access_events_pb.ts";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { FeedInternalService, Start } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { reasonOf, StartupError } from "../errors.ts";
import { services } from "../services.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { eventReaders, readableTypes } from "./readers.ts";

const REGISTERED = "concierge.auth.v1.AccountRegistered";
const STARTED = "concierge.auth.v1.SessionStarted";
const ENDED = "concierge.auth.v1.SessionEnded";
const FROM_OLDEST = { case: "start", value: Start.OLDEST } as const;

let system: TestSystem;

before(async () => {
  system = await startTestSystem({ variables: { CONCIERGE_NOTIFICATION_SENDER_POLL_MS: "60000" } });
});

after(() => system[Symbol.asyncDispose]());

const feedOf = (service: string, caller: string) => system.asService(FeedInternalService, caller, service);

/** Whatever a caller may read of auth's feed, by type. */
async function typesFor(caller: string): Promise<string[]> {
  const { events } = await feedOf("auth", caller).read({ service: "auth", from: FROM_OLDEST });
  return [...new Set(events.map(({ type }) => type))].sort();
}

async function refusalOf(call: Promise<unknown>) {
  const error = await call.then(
    () => assert.fail("it was answered"),
    (thrown: unknown) => thrown,
  );
  return [(error as { code: Code }).code, reasonOf(error)];
}

describe("who may read what", () => {
  before(async () => {
    const { refreshToken } = await system.newUser();
    await system.asUser(AuthService).logout({ refreshToken });
    await until("everything has its place", async () => (await typesFor("operator")).length === 3);
  });

  test("each caller gets what the contract lets it have, and no word of the rest", async () => {
    assert.deepEqual(await typesFor("operator"), [REGISTERED, ENDED, STARTED].sort());
    assert.deepEqual(await typesFor("user"), [REGISTERED, ENDED]);
    assert.deepEqual(await typesFor("greeter"), [ENDED]);
    assert.deepEqual(await typesFor("backend"), [ENDED]);
  });

  test("an event that the caller may not read, or that there is not, is refused by name", async () => {
    const read = (caller: string, ...types: string[]) => feedOf("auth", caller).read({ service: "auth", types });
    const notAllowed = [Code.PermissionDenied, "CALLER_NOT_ALLOWED"];
    assert.deepEqual(await refusalOf(read("greeter", REGISTERED)), notAllowed);
    assert.deepEqual(await refusalOf(read("user", ENDED, STARTED)), notAllowed);
    assert.deepEqual(await refusalOf(read("backend", STARTED)), notAllowed);
    const unknown = [Code.InvalidArgument, "UNKNOWN_EVENT_TYPE"];
    for (const caller of ["operator", "greeter"]) {
      assert.deepEqual(await refusalOf(read(caller, ENDED, "concierge.auth.v1.Nothing")), unknown);
      assert.deepEqual(await refusalOf(read(caller, "concierge.user.v1.UserCreated")), unknown);
    }
  });

  test("who may read nothing of a service is refused", () => {
    // No service of ours has a key for another one and nothing to read there.
    const greeter = { kind: "service", name: "greeter" } as const;
    const read = () => readableTypes(eventReaders(file_concierge_access_v1_access_events), greeter, []);
    assert.throws(read, (error) => {
      return (error as { code: Code }).code === Code.PermissionDenied && reasonOf(error) === "CALLER_NOT_ALLOWED";
    });
  });

  test("a token for one service opens no other's feed, though all of them have one path", async () => {
    for (const service of ["user", "access", "notification", "nobody"]) {
      const call = feedOf("auth", "operator");
      const refusal = [Code.PermissionDenied, "CALLER_NOT_ALLOWED"];
      assert.deepEqual(await refusalOf(call.read({ service })), refusal);
      assert.deepEqual(await refusalOf(call.getStatus({ service })), refusal);
    }
  });

  test("every event says who may read it, and one that does not stops the start", () => {
    const published = services.flatMap(({ events }) => (events ? [...eventReaders(events).keys()] : []));
    assert.ok(published.includes(ENDED) && published.length >= 10);
    assert.throws(() => eventReaders(file_google_protobuf_duration), StartupError);
  });
});

describe("reading over RPC", () => {
  test("a cursor that is lost, one that is none, and a place in front of the first", async () => {
    await system.newUser();
    const feed = feedOf("auth", "operator");
    const maxWait = { seconds: 1n };
    const at = (epoch: string, position: bigint) =>
      feed.read({ service: "auth", from: { case: "cursor", value: { epoch, position } }, maxWait });
    const { next } = await feed.read({ service: "auth" });
    assert.deepEqual(await refusalOf(at("another", 0n)), [Code.Aborted, "CURSOR_LOST"]);
    assert.deepEqual(await refusalOf(at(next!.epoch, next!.position + 1_000n)), [Code.Aborted, "CURSOR_LOST"]);
    assert.deepEqual(await refusalOf(at("", 0n)), [Code.InvalidArgument, "INVALID_REQUEST"]);
    assert.deepEqual(await refusalOf(at(next!.epoch, -1n)), [Code.InvalidArgument, "INVALID_REQUEST"]);
    assert.equal((await at(next!.epoch, 0n)).events[0]!.position, 1n);
  });

  test("a long wait is cut to a second, and tells that there was nothing", async () => {
    const feed = feedOf("access", "operator");
    const { next } = await feed.read({ service: "access" });
    const from = { case: "cursor", value: next! } as const;
    const answer = await feed.read({ service: "access", from, maxWait: { seconds: 3_600n } }, { timeoutMs: 8_000 });
    assert.deepEqual([answer.events, answer.complete], [[], true]);
  });

  test("what was read is in no line of the log, and a reader that waits is no line at all", async () => {
    const reads = system.logLines.filter(({ procedure }) => String(procedure).endsWith("FeedInternalService/Read"));
    assert.ok(reads.length > 0);
    const ok = reads.filter(({ code }) => code === "ok");
    assert.deepEqual(new Set(ok.map(({ level }) => level)), new Set(["debug"]));
  });

  test("an operator sees how far each service has come", async () => {
    const feed = feedOf("auth", "operator");
    const { head: before } = await feed.getStatus({ service: "auth" });
    await system.newUser();
    const from = { case: "cursor", value: before! } as const;
    const { events } = await feed.read({ service: "auth", from, types: [REGISTERED], maxWait: { seconds: 1n } });
    const { following } = await until("user has caught up", async () => {
      const status = await feedOf("user", "operator").getStatus({ service: "user" });
      const isThere = status.following.some(({ cursor }) => cursor && cursor.position >= events[0]!.position);
      return isThere && status.following.every(({ completeAt }) => completeAt) && status;
    });
    assert.deepEqual(
      following.map(({ source, parked, completeAt }) => [source, parked, completeAt !== undefined]),
      [
        ["auth", 0n, true],
        ["auth", 0n, true],
        ["access", 0n, true],
        ["organization", 0n, true],
      ],
    );
    const refused = feedOf("user", "backend").getStatus({ service: "user" });
    assert.deepEqual(await refusalOf(refused), [Code.PermissionDenied, "CALLER_NOT_ALLOWED"]);
  });
});

describe("what the system does with it", () => {
  test("a notification is pushed at once, however rarely the sender looks by itself", async () => {
    const person = await system.newUser();
    const phone = { token: "phone", platform: Platform.ANDROID };
    await system.asUser(NotificationService, person.accessToken).registerDevice(phone);
    const notifications = system.asService(NotificationInternalService, "backend", "notification");
    const title = crypto.randomUUID();
    await notifications.createNotification({ title, text: "now", userIds: [person.userId] });
    await until("the push", async () => JSON.stringify(await system.pushes()).includes(title));
  });

  test("a logout is refused by every service", async () => {
    const { accessToken, refreshToken } = await system.newUser();
    const calls = [
      () => system.asUser(UserService, accessToken).getMe({}),
      () => system.asUser(GreeterService, accessToken).sayHello({ name: "Ann" }),
    ];
    await Promise.all(calls.map((call) => call()));
    await system.asUser(AuthService).logout({ refreshToken });
    for (const call of calls) {
      const refused = () =>
        call().then(
          () => undefined,
          (error: unknown) => (error as { code: Code }).code,
        );
      assert.equal(await until("it is refused", refused), Code.Unauthenticated);
    }
  });
});
