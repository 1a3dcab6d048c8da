/**
 * No secret gets where it does not belong: a whole system does its work and is sent every secret in every wrong place, by
 * every kind of caller; then all that it said and stored is searched for them.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { connect, identifier } from "../db/connection.ts";
import { services } from "../services.ts";
import { type HeaderLine, type HttpRequest, sendHttp } from "../testing/http.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { startTraceCollector, type TraceCollector } from "../testing/trace-collector.ts";
import { until } from "../testing/until.ts";
import { frameMessage } from "../testing/wire.ts";
import { messageDigest, SERVICE_TOKEN_HEADER, signServiceToken } from "../token/service-token.ts";

const withDatabase = services.filter(({ hasDatabase }) => hasDatabase).map(({ name }) => name);

/** Secrets by what they are. Those of several parts count as known to whoever has the part that is given. */
type Secrets = Record<string, string>;

describe("a system that knows secrets", () => {
  let collector: TraceCollector;
  let system: TestSystem;
  let secrets: Secrets;
  /** Whole answers, with their headers, to requests that must not be answered with what they held. */
  const answers: Buffer[] = [];

  before(async () => {
    collector = await startTraceCollector();
    system = await startTestSystem({ variables: { CONCIERGE_TRACES_URL: collector.url } });
    const { password, accessToken, refreshToken } = await journey();
    secrets = { ...configured(), password, "refresh token": refreshToken, "access token": signatureOf(accessToken) };
    secrets["wrong password"] = `canary-${crypto.randomUUID()}`;
    secrets["device token"] = DEVICE_TOKEN;
    secrets["faulty device token"] = FAULTY_DEVICE_TOKEN;
    const serviceToken = signServiceToken(
      system.keyOf("user", "auth"),
      "/x",
      messageDigest(Buffer.alloc(0)),
      system.clock,
    );
    secrets["service token"] = signatureOf(serviceToken);
    const misused = [password, accessToken, refreshToken, serviceToken, DEVICE_TOKEN, secrets["Firebase key"]!];
    misused.push(String(system.serviceKeys[0]!.secret), secrets["password of auth"]!, secrets["signing key 0"]!);
    for (const url of [system.publicUrl, system.internalUrl]) {
      for (const secret of misused) await misuse(url, secret);
    }
    await refusedLogins(secrets["wrong password"]);
    await rest();
  });

  after(async () => {
    await system[Symbol.asyncDispose]();
    await collector[Symbol.asyncDispose]();
  });

  const DEVICE_TOKEN = `device-${crypto.randomUUID()}`;
  const FAULTY_DEVICE_TOKEN = `invalid-${crypto.randomUUID()}`;

  /** What the processes were started with. */
  function configured(): Secrets {
    const found: Secrets = {};
    for (const { caller, callee, kid, secret } of system.serviceKeys) found[`key ${caller} ${callee} ${kid}`] = secret;
    for (const [index, key] of system.signingKeys.keys.entries()) found[`signing key ${index}`] = String(key.d);
    for (const name of withDatabase) {
      const { runtimeUrl, ownerUrl, jobUrl } = system.database(name);
      found[`password of ${name}`] = new URL(runtimeUrl).password;
      found[`password of ${name}'s owner`] = new URL(ownerUrl).password;
      found[`password of ${name}'s jobs`] = new URL(jobUrl).password;
    }
    const { private_key, private_key_id } = JSON.parse(system.pushCredentials) as Record<string, string>;
    // A line of its middle, which stands alone wherever the key is printed.
    found["Firebase key"] = private_key!.split("\n")[5]!;
    assert.ok(found["Firebase key"].length > 40 && private_key_id);
    for (const [name, secret] of Object.entries(found)) assert.ok(secret.length >= 16, name);
    return found;
  }

  /** Everything that a person, a service and an operator do, over gRPC, with good and with refused calls. */
  async function journey() {
    const sessionManager = new Http2SessionManager(system.publicUrl);
    const transport = createGrpcTransport({ baseUrl: system.publicUrl, sessionManager });
    const person = await system.newUser({ password: `canary-${crypto.randomUUID()}` });
    const { accessToken, userId, refreshToken, email, password } = person;
    const options = { headers: { authorization: `Bearer ${accessToken}` } };
    const client = <Desc extends DescService>(desc: Desc) => createClient(desc, transport);
    await client(UserService).getMe({}, options);
    await client(GreeterService).sayHello({ name: "Ann" }, options);
    const inbox = client(NotificationService);
    for (const token of [DEVICE_TOKEN, FAULTY_DEVICE_TOKEN]) {
      await inbox.registerDevice({ token, platform: Platform.ANDROID }, options);
    }
    const sender = system.asService(NotificationInternalService, "backend", "notification");
    const { notificationId } = await sender.createNotification({ title: "t", text: "x", userIds: [userId] });
    await until("the push", async () => (await system.pushes()).length > 0);
    await inbox.markReceived({ notificationId }, options);
    await inbox.listMyNotifications({}, options);
    await client(OrganizationService).createOrganization({ name: "Bakery", slug: "bakery" }, options);
    const roles = system.asService(AccessInternalService, "operator", "access");
    await roles.createRole({ name: "steward", description: "" });
    await roles.assignRole({ userId, role: "steward" });
    await system.asService(AuthInternalService, "operator", "auth").getAccount({ userId });
    await assert.rejects(client(AuthService).login({ email, password: `${password}!` }));
    await assert.rejects(client(AuthService).registerUser({ email, password, firstName: "A", lastName: "B" }));
    await client(AuthService).logout({ refreshToken });
    const getMe = () => client(UserService).getMe({}, options);
    await until("the logout is known", () =>
      getMe().then(
        () => false,
        () => true,
      ),
    );
    sessionManager.abort();
    return person;
  }

  /** Logins that fail in each way there is, on each way that a message can come. */
  async function refusedLogins(password: string) {
    const transport = (useBinaryFormat: boolean) => ({ baseUrl: system.publicUrl, useBinaryFormat });
    for (const isBinary of [true, false]) {
      const sessionManager = new Http2SessionManager(system.publicUrl);
      const client = createClient(AuthService, createGrpcTransport({ ...transport(isBinary), sessionManager }));
      for (const email of ["nobody@example.com", "", password, `${password}@example.com`]) {
        await assert.rejects(client.login({ email, password }));
        await assert.rejects(client.registerUser({ email: "", password, firstName: password, lastName: password }));
        await client.logout({ refreshToken: password });
      }
      sessionManager.abort();
    }
  }

  /** Sends one secret in every place of a request where it does not belong. */
  async function misuse(url: string, secret: string) {
    const login = `/${AuthService.typeName}/Login`;
    const json: HeaderLine = ["content-type", "application/json"];
    const grpc: HeaderLine = ["content-type", "application/grpc"];
    const post = (path: string, headers: HeaderLine[], body: string | Uint8Array): HttpRequest => ({
      httpMethod: "POST",
      path,
      headers,
      body: Buffer.from(body),
    });
    const get = (path: string, headers: HeaderLine[] = []): HttpRequest => ({ httpMethod: "GET", path, headers });
    const fields = `{"email":"a@example.com","password":"${secret}"`;
    const requests = [
      post(login, [json], `${fields}`),
      post(login, [json], `${fields},"${secret}":1}`),
      post(login, [json], `{"email":["${secret}"],"password":{"${secret}":"${secret}"}}`),
      post(login, [json], `{"${secret}`),
      post(login, [["content-type", "application/proto"]], secret),
      post(login, [grpc], secret),
      post(login, [grpc], frameMessage(Buffer.from(secret))),
      post(login, [["content-type", `application/${secret}`]], fields),
      post(`${login}?password=${secret}&token=${secret}`, [json], `${fields}}`),
      post(`${login}/${secret}`, [json], "{}"),
      post(`/${secret}`, [grpc], ""),
      get(`${login}?connect=v1&encoding=json&message=${secret}`),
      get(`${login}?connect=v1&encoding=${secret}&base64=1&message=${secret}`),
      get(`/${AuthInternalService.typeName}/GetAccount?connect=v1&encoding=json&message=${secret}`),
      get(`/healthz?${secret}`),
      get(`/readyz/${secret}`),
      get(`/metrics?${secret}`),
      ...headersWith(secret).map((line) =>
        post(`/${UserService.typeName}/GetMe`, [grpc, line], frameMessage(Buffer.alloc(0))),
      ),
      ...headersWith(secret).map((line) => post(`/${AuthInternalService.typeName}/GetAccount`, [json, line], "{}")),
    ];
    const exchanges = requests.flatMap((request) => [exchange("1.1", url, request), exchange("2", url, request)]);
    answers.push(...(await Promise.all(exchanges)));
  }

  const headersWith = (secret: string): HeaderLine[] => [
    ["authorization", `Bearer ${secret}`],
    ["authorization", `Basic ${secret}`],
    ["authorization", secret],
    [SERVICE_TOKEN_HEADER, secret],
    ["cookie", `session=${secret}`],
    ["x-api-key", secret],
    ["x-some-name", secret],
    ["x-request-id", secret],
    ["traceparent", secret],
    ["tracestate", `x=${secret}`],
    ["baggage", `x=${secret}`],
    ["user-agent", secret],
    ["x-forwarded-for", secret],
    ["grpc-timeout", secret],
    ["grpc-encoding", secret],
    ["content-encoding", secret],
    ["connect-timeout-ms", secret],
    ["connect-protocol-version", secret],
    ["origin", `https://${secret}.example`],
  ];

  /** All that comes back. A connection that is cut has said nothing. */
  async function exchange(version: "1.1" | "2", url: string, request: HttpRequest): Promise<Buffer> {
    try {
      const { headers, trailers, body } = await sendHttp(version, url, request);
      return Buffer.concat([Buffer.from(JSON.stringify([headers, trailers])), body]);
    } catch {
      return Buffer.alloc(0);
    }
  }

  /** Waits until the traces of what was called are there. */
  async function rest() {
    const names = new Set([AuthService, UserService, NotificationInternalService].map(({ typeName }) => typeName));
    await until("the traces", () => {
      for (const { name } of collector.spans) names.delete(name.split("/")[0]!);
      return names.size === 0;
    });
  }

  function assertClean(what: string, text: string, known: readonly string[] = []) {
    for (const [name, secret] of Object.entries(secrets)) {
      if (known.includes(name)) continue;
      for (const form of formsOf(secret)) {
        const at = text.indexOf(form);
        assert.ok(at < 0, `the ${name} is in ${what}: ...${text.slice(Math.max(0, at - 300), at).slice(-300)}`);
      }
    }
  }

  test("S-LOG-01 the log has no secret", () => {
    const text = system.logLines.map((line) => JSON.stringify(line)).join("\n");
    assert.ok(system.logLines.length > 1_000 && text.includes("MALFORMED_MESSAGE"));
    assertClean("the log", text);
  });

  test("S-LOG-01 the metrics have no secret", async () => {
    const { body } = await sendHttp("1.1", system.internalUrl, { httpMethod: "GET", path: "/metrics", headers: [] });
    assert.match(String(body), /rpc_server_refused_total/);
    assertClean("the metrics", String(body));
  });

  test("S-LOG-01 the traces have no secret", () => {
    const text = collector.bodies.map((body) => body.toString("latin1")).join("\n");
    assert.ok(collector.spans.some(({ name }) => name === `${AuthService.typeName}/Login`));
    assertClean("the traces", text);
  });

  test("S-LOG-01 no refusal says anything of what was sent", () => {
    assert.ok(answers.some((answer) => answer.includes("MALFORMED_MESSAGE")));
    assertClean("an answer", answers.map((answer) => answer.toString("latin1")).join("\n"));
  });

  test("S-LOG-01 no secret is stored in the clear, but what pushes need", async () => {
    const pushed = ["device token", "faulty device token"];
    for (const name of withDatabase) {
      const tables = await contentsOf(system.database(name).ownerUrl);
      assert.ok(tables.get("feed_outbox")!.length > 0 && tables.size > 3, name);
      for (const [table, text] of tables) {
        // The refused login's e-mail address and names are not stored either: nothing of it was valid.
        const known = name === "notification" && table === "devices" ? pushed : [];
        assertClean(`${name}'s table ${table}`, text, known);
      }
    }
  });
});

/** The last part of a token: no use to anybody, and to be found wherever the token is. */
function signatureOf(token: string): string {
  return token.split(".").at(-1)!;
}

/** How a text may stand in a dump: as it is, as hexadecimal bytes, in base64, with percent signs. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  return [
    secret,
    bytes.toString("hex"),
    bytes.toString("base64").replace(/=+$/, "").slice(0, -1),
    encodeURIComponent(secret),
  ];
}

/** All rows of every table, as text, by table. */
async function contentsOf(url: string): Promise<Map<string, string>> {
  const sql = connect(url, { applicationName: "secrets.test" });
  try {
    const names = await sql<{ name: string }[]>`
      select tablename as name from pg_tables where schemaname = 'public' order by 1`;
    const contents = new Map<string, string>();
    for (const { name } of names) {
      const rows = await sql.unsafe<{ row: string }[]>(`select t::text as row from ${identifier(name)} t`);
      contents.set(name, rows.map(({ row }) => row).join("\n"));
    }
    return contents;
  } finally {
    await sql.end();
  }
}
