/**
 * A process on a machine whose clock is wrong, beside one whose clock is right, over the same databases: it says so and gets no calls,
 * nobody is taken in by its tokens, and nothing ends before its time, which is the database's.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { AuthService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationInternalService } from "../gen/concierge/notification/v1/notification_service_pb.ts";
import { connectService } from "./client/service-client.ts";
import { createClock, systemClock } from "./clock.ts";
import { auth } from "./services/auth/service.ts";
import { notification } from "./services/notification/service.ts";
import { type RunningCommand, startCommand } from "./testing/command.ts";
import { type TestEnvironment, testEnvironment } from "./testing/environment.ts";
import { logIn, newUser, type TestUser, userTransport } from "./testing/people.ts";
import { refusalOf } from "./testing/refusals.ts";
import { until } from "./testing/until.ts";
import type { ServiceKey } from "./token/service-token.ts";

const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** auth and notification in one process, on a machine of their own. */
class Machine implements AsyncDisposable {
  readonly command: RunningCommand;
  readonly #aheadMs: number;
  readonly #keys: ServiceKey[];
  publicUrl = "";
  internalUrl = "";

  constructor({ variables }: TestEnvironment, aheadMs: number) {
    const wrongClock = `const now = Date.now; Date.now = () => now() + ${aheadMs};`;
    this.command = startCommand(["serve", "auth", "notification"], {
      ...variables,
      ...{ CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" },
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(wrongClock)}`,
    });
    this.#aheadMs = aheadMs;
    this.#keys = JSON.parse(variables.CONCIERGE_NOTIFICATION_SERVICE_KEYS!).keys;
  }

  async listening(): Promise<void> {
    const [line] = await this.command.printed(/^\{.*"msg":"listening".*$/m);
    Object.assign(this, JSON.parse(line));
  }

  /** What keeps it from being ready. */
  async missing(): Promise<string[]> {
    const answer = await fetch(`${this.internalUrl}/readyz`);
    const { missing } = (await answer.json()) as { missing: string[] };
    assert.equal(answer.status, missing.length === 0 ? 200 : 503);
    return missing;
  }

  auth(accessToken?: string) {
    return createClient(AuthService, userTransport(this.publicUrl, accessToken));
  }

  /** Whether it takes an access token. */
  takes({ accessToken }: TestUser): Promise<string> {
    const call = this.auth(accessToken).listSessions({});
    return call.then(
      () => "taken",
      () => refusalOf(call),
    );
  }

  /** Recipients that a caller on the machine `from` is given to push to; or why it is refused. */
  async claim(from: Machine = this): Promise<number | string> {
    const key = this.#keys.find(({ caller }) => caller === "notification-sender")!;
    using connection = connectService({ baseUrl: this.internalUrl, key, clock: from.#clock });
    const call = connection.client(NotificationInternalService).claim({ leaseSeconds: 300 });
    return await call.then(
      ({ notifications }) => notifications.length,
      () => refusalOf(call),
    );
  }

  async notify(userId: string): Promise<void> {
    const key = this.#keys.find(({ caller }) => caller === "operator")!;
    using connection = connectService({ baseUrl: this.internalUrl, key, clock: this.#clock });
    await connection.client(NotificationInternalService).createNotification({ text: "hello", userIds: [userId] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.command[Symbol.asyncDispose]();
  }

  get #clock() {
    return createClock(
      () => systemClock.now() + this.#aheadMs,
      () => systemClock.monotonic(),
    );
  }
}

describe("a process whose clock is wrong", () => {
  const opened = new AsyncDisposableStack();
  let environment: TestEnvironment;
  let right: Machine;
  let ann: TestUser;

  before(async () => {
    environment = opened.use(await testEnvironment([auth, notification]));
    right = await start(0);
    ann = await newUser(right.auth());
  });
  after(() => opened.disposeAsync());

  async function start(aheadMs: number): Promise<Machine> {
    const machine = opened.use(new Machine(environment, aheadMs));
    await machine.listening();
    const isUp = (missing: string[]) => missing.every((line) => line.includes("the database's clock"));
    await until("it is up", async () => isUp(await machine.missing()));
    return machine;
  }

  for (const aheadMs of [3_000, -3_000]) {
    test(`R-CLK-01 by ${aheadMs / 1_000} s works like any other`, async () => {
      await using machine = await start(aheadMs);
      assert.deepEqual(await machine.missing(), []);
      assert.deepEqual(
        [await machine.takes(ann), await right.takes(await logIn(machine.auth(), ann))],
        ["taken", "taken"],
      );
      for (const [from, to] of [
        [right, machine],
        [machine, right],
      ] as const)
        assert.equal(await to.claim(from), 0);
    });
  }

  const wrong: [aheadMs: number, difference: RegExp, takesRightTokens: boolean, itsTokensAreTaken: boolean][] = [
    // Access tokens live for five minutes: a minute is within them, but no token may come from the future.
    [MINUTE_MS, /the database's clock is (60|59)\.\d s behind ours$/, true, false],
    [-MINUTE_MS, /the database's clock is (60|59)\.\d s ahead of ours$/, false, true],
    [HOUR_MS, /the database's clock is (3600|3599)\.\d s behind ours$/, false, false],
    [-HOUR_MS, /the database's clock is (3600|3599)\.\d s ahead of ours$/, false, false],
  ];
  for (const [aheadMs, difference, takesRightTokens, itsTokensAreTaken] of wrong) {
    test(`R-CLK-01 by ${aheadMs / 1_000} s is not ready and says why; nothing ends before its time`, async () => {
      await right.notify(ann.userId);
      assert.equal(await right.claim(), 1);
      await using machine = await start(aheadMs);
      const missing = await machine.missing();
      assert.deepEqual(
        missing.map((line) => difference.test(line)),
        [true, true],
        `${missing}`,
      );
      const warnings = machine.command.stdout().match(/let NTP set the clocks/g);
      assert.equal(warnings?.length, 2, "each service says it once");

      const bob = await newUser(machine.auth());
      const [fresh, said] = [await logIn(right.auth(), ann), { true: "taken", false: UNAUTHENTICATED }];
      assert.equal(await machine.takes(fresh), said[`${takesRightTokens}`]);
      assert.equal(await right.takes(bob), said[`${itsTokensAreTaken}`]);
      for (const [from, to] of [
        [right, machine],
        [machine, right],
      ] as const) {
        assert.equal(await to.claim(from), UNAUTHENTICATED, "service tokens live for seconds");
      }
      // By its own time the lease would have ended, or the session.
      assert.equal(await machine.claim(), 0);
      const { refreshToken } = await machine.auth().refreshToken({ refreshToken: fresh.refreshToken });
      assert.ok(await right.auth().refreshToken({ refreshToken }));
    });
  }
});
