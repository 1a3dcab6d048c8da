/** The edge with everything behind it: text that is stored and comes back, and a database that goes away and returns. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { auth } from "../services/auth/service.ts";
import { notification } from "../services/notification/service.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import { sendHttp } from "../testing/http.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";

const refusedAs = (reason: string) => (error: unknown) => {
  assert.equal(reasonOf(error), reason);
  return true;
};

describe("the edge of the system", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, notification] });
  });

  after(() => system[Symbol.asyncDispose]());

  const oddTexts = [
    "😀👩‍👩‍👧‍👦𝒜",
    "\u202eevil\u202c \u2066ltr\u2069",
    "\u0001\u001b[31m\u007f\ufeff\uffff",
    "'; drop table accounts; --",
    "<script>alert(1)</script> {{7*7}} %00 \\0",
    "e\u0301 é ﬁ ſ",
    " \t\r\n ",
  ];

  test("S-API-11 odd text is stored and returned as it was sent", async () => {
    const { userId, accessToken } = await system.newUser();
    const sender = system.asService(NotificationInternalService, "backend", "notification");
    const mine = system.asUser(NotificationService, accessToken);
    for (const text of oddTexts) {
      const { notificationId } = await sender.createNotification({
        title: text,
        text,
        data: { a: text },
        userIds: [userId],
      });
      const { notifications } = await mine.listMyNotifications({ pageSize: 1 });
      const [found] = notifications;
      assert.equal(found!.notificationId, notificationId);
      assert.deepEqual([found!.title, found!.text, found!.data], [text, text, { a: text }]);
    }
    const accounts = system.asService(AuthInternalService, "operator", "auth");
    for (const name of oddTexts.slice(0, 3)) {
      const user = await system.newUser({ firstName: name, lastName: name });
      const { account } = await accounts.getAccount({ userId: user.userId });
      assert.deepEqual([account!.firstName, account!.lastName], [name, name]);
    }
  });

  test("S-API-11 NUL, half a surrogate pair and one too many are refused, and are not an internal error", async () => {
    const { userId } = await system.newUser();
    const sender = system.asService(NotificationInternalService, "backend", "notification");
    const create = (parts: object) => sender.createNotification({ text: "x", userIds: [userId], ...parts });
    for (const parts of [
      { title: "a\0b" },
      { text: "\0" },
      { data: { a: "\0" } },
      { title: "x".repeat(201) },
      { title: "😀".repeat(201) },
      { text: "x".repeat(4_001) },
      { data: { a: "x".repeat(1_025) } },
    ]) {
      await assert.rejects(create(parts), refusedAs("INVALID_REQUEST"), JSON.stringify(parts).slice(0, 40));
    }
    await create({ title: "😀".repeat(200) });
    for (const wire of allWires.filter(({ encoding }) => encoding === "json")) {
      for (const name of ["\\ud800", "\\udc00\\ud800", "\\u0000", "x".repeat(101)]) {
        const message = Buffer.from(`{"email":"odd@example.com","password":"a fine password","firstName":"${name}"}`);
        const answer = await callWire(wire, system.publicUrl, { method: AuthService.method.registerUser, message });
        assert.equal(answer.code, Code.InvalidArgument, `${wireName(wire)} ${name}`);
      }
    }
    const faults = system.logLines.filter(({ level }) => level === "error");
    assert.deepEqual(faults, []);
  });

  test("S-API-08 a device of no platform, or of one that there is not, is not registered", async () => {
    const { accessToken } = await system.newUser();
    const mine = system.asUser(NotificationService, accessToken);
    for (const platform of [Platform.UNSPECIFIED, 9999 as Platform, -1 as Platform]) {
      await assert.rejects(mine.registerDevice({ token: "t", platform }), refusedAs("INVALID_REQUEST"));
    }
    assert.ok((await mine.registerDevice({ token: "t", platform: Platform.IOS })).deviceId);
  });

  test("S-LOG-09 nothing tells what serves: no header, no /version, no path of a framework", async () => {
    for (const url of [system.publicUrl, system.internalUrl]) {
      for (const http of ["1.1", "2"] as const) {
        for (const path of [
          "/version",
          "/",
          "/healthz",
          "/readyz",
          "/server-status",
          "/.well-known/jwks.json",
          "/%ff",
        ]) {
          const answer = await sendHttp(http, url, { httpMethod: "GET", path, headers: [] });
          const names = answer.headers.map(([name]) => name);
          for (const name of ["server", "x-powered-by", "via"]) assert.ok(!names.includes(name), `${path} ${name}`);
          assert.doesNotMatch(String(answer.body), /node|postgres|connect-es|[0-9]+\.[0-9]+\.[0-9]+| at /i, path);
          const isUnknown = ["/version", "/", "/server-status", "/%ff"].includes(path);
          if (isUnknown) assert.equal(answer.status, url === system.publicUrl ? 404 : 401, path);
        }
      }
    }
  });

  test("S-LOG-04 a database that goes away is DATABASE_UNAVAILABLE; the process lives, and heals by itself", async () => {
    const url = new URL(system.database("auth").runtimeUrl);
    await using proxy = await startFaultProxy({ host: url.hostname, port: Number(url.port) });
    url.hostname = proxy.host;
    url.port = String(proxy.port);
    await using replica = await system.startReplica({ CONCIERGE_AUTH_DATABASE_URL: url.href });
    await replica.ready;
    const user = await system.newUser();
    const login = async () => {
      const { code, reason, answer } = await callWire(allWires[2]!, replica.publicUrl, {
        method: AuthService.method.login,
        message: { email: user.email, password: user.password },
      });
      return answer ? "logged in" : [code, reason];
    };
    const statusOf = async (path: string) =>
      (await sendHttp("1.1", replica.internalUrl, { httpMethod: "GET", path, headers: [] })).status;
    assert.equal(await login(), "logged in");
    for (const fault of ["cut", "reset"] as const) {
      proxy[fault]();
      for (let call = 0; call < 3; call++) {
        assert.deepEqual(await login(), [Code.Unavailable, "DATABASE_UNAVAILABLE"], fault);
      }
      assert.deepEqual([await statusOf("/healthz"), await statusOf("/readyz")], [200, 503]);
      await proxy.heal();
      assert.equal(await login(), "logged in", `after ${fault}`);
      await until("it is ready", async () => (await statusOf("/readyz")) === 200);
    }
    const { password } = new URL(system.database("auth").runtimeUrl);
    assert.ok(!JSON.stringify(system.logLines).includes(password));
  });
});
