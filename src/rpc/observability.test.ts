/** What operators see of a system that runs: metrics, traces and log lines that agree, and no secret in any of them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserInternalService, UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { sendHttp } from "../testing/http.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { type CollectedSpan, startTraceCollector, type TraceCollector } from "../testing/trace-collector.ts";
import { until } from "../testing/until.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID = "00f067aa0ba902b7";
const SERVICES_HEADERS = { traceparent: `00-${TRACE_ID}-${SPAN_ID}-01` };
const CLIENTS_HEADERS = { tracestate: "x=canary-state" };

describe("a system that is watched", () => {
  let collector: TraceCollector;
  let system: TestSystem;

  before(async () => {
    collector = await startTraceCollector();
    system = await startTestSystem({ variables: { CONCIERGE_TRACES_URL: collector.url } });
  });

  after(async () => {
    await system[Symbol.asyncDispose]();
    await collector[Symbol.asyncDispose]();
  });

  const scrape = async () => {
    const answer = await sendHttp("1.1", system.internalUrl, { httpMethod: "GET", path: "/metrics", headers: [] });
    assert.equal(answer.status, 200);
    return String(answer.body);
  };
  /** Without those of our methods: the services call each other meanwhile. */
  const seriesOf = (text: string) =>
    text.split("\n").filter((line) => !line.startsWith("#") && !line.includes('method="/concierge.')).length;

  test("one trace goes from the client's call to the services that it needs, and into the log", async () => {
    // Nobody knows this one, so user asks access, and access asks auth.
    const client = system.asService(UserInternalService, "backend", "user");
    const asked = client.getUser({ userId: crypto.randomUUID() }, { headers: SERVICES_HEADERS });
    await assert.rejects(asked, { code: Code.NotFound });
    const chain = [
      "server concierge.user.v1.UserInternalService/GetUser",
      "client concierge.access.v1.AccessInternalService/BatchGetUserRoles",
      "server concierge.access.v1.AccessInternalService/BatchGetUserRoles",
      "client concierge.auth.v1.AuthInternalService/GetAccount",
      "server concierge.auth.v1.AuthInternalService/GetAccount",
    ];
    const ours = await until("the trace", () => {
      const spans = collector.spans.filter(({ traceId }) => traceId === TRACE_ID);
      return spans.length === chain.length && spans;
    });
    const nameOf = ({ name, kind }: CollectedSpan) => `${kind === 2 ? "server" : "client"} ${name}`;
    let parentSpanId: string | undefined = SPAN_ID;
    for (const expected of chain) {
      const [span, ...others] = ours.filter((each) => each.parentSpanId === parentSpanId);
      assert.deepEqual([span && nameOf(span), others], [expected, []]);
      parentSpanId = span!.spanId;
    }
    const root = ours.find((each) => each.parentSpanId === SPAN_ID)!;
    assert.equal(root.attributes["concierge.caller.kind"], "backend");
    const lines = system.logLines.filter(({ traceId }) => traceId === TRACE_ID);
    assert.deepEqual(lines.map(({ procedure }) => String(procedure).split("/")[2]).sort(), [
      "BatchGetUserRoles",
      "GetAccount",
      "GetUser",
    ]);
  });

  test("S-LOG-01 no path, protocol or name that strangers choose gets into the metrics or makes them longer", async () => {
    const attack = async (round: number) => {
      const headers = [
        ["content-type", `application/canary-${round}`],
        ["authorization", `Bearer canary-${round}`],
      ] as const;
      for (const path of [`/canary.v1.Service/Method${round}`, `/concierge.auth.v1.AuthService/Canary${round}`]) {
        await sendHttp("2", system.publicUrl, { httpMethod: "POST", path, headers, body: Buffer.from("canary") });
      }
    };
    await attack(0);
    const before = seriesOf(await scrape());
    for (let round = 1; round <= 30; round++) await attack(round);
    const text = await scrape();
    assert.equal(seriesOf(text), before);
    assert.ok(!text.includes("canary"));
    assert.match(text, /method="unknown",protocol="unknown",code="UNIMPLEMENTED"\} 6[2-9]/);
  });

  test("S-LOG-01 neither passwords nor tokens are in the metrics or the traces", async () => {
    const password = `canary-${crypto.randomUUID()}`;
    const { userId, email, accessToken, refreshToken } = await system.newUser({ password });
    await system.asUser(UserService, accessToken).getMe({}, { headers: CLIENTS_HEADERS });
    await assert.rejects(system.asUser(AuthService).login({ email, password: `${password}!` }));
    await assert.rejects(system.asUser(UserService, `${accessToken}x`).getMe({}));
    const secrets = [password, accessToken, refreshToken, "canary-state", email, userId];
    secrets.push(...system.serviceKeys.map(({ secret }) => String(secret)));
    const text = await scrape();
    assert.ok(/^rpc_server_refused_total\{reason="[a-z_]+"\} 1$/m.test(text), "the refusal is not counted");
    for (const secret of secrets) assert.ok(!text.includes(secret), `${secret} in the metrics`);
    const isLogin = ({ name }: { name: string }) => name === "concierge.auth.v1.AuthService/Login";
    const hasFailed = (span: CollectedSpan) =>
      isLogin(span) && span.attributes["rpc.status_code"] === "UNAUTHENTICATED";
    await until("the last login's trace", () => collector.spans.some(hasFailed));
    for (const secret of secrets) {
      assert.ok(!collector.bodies.some((body) => body.includes(secret)), `${secret} in the traces`);
    }
  });

  test("the metrics have the pools, the queue of passwords, the listeners and the methods", async () => {
    await using replica = await system.startReplica();
    await replica.ready;
    const answer = await sendHttp("1.1", replica.internalUrl, { httpMethod: "GET", path: "/metrics", headers: [] });
    const text = String(answer.body);
    assert.match(text, /^db_pool_connections\{service="auth",state="idle"\} \d+$/m);
    assert.match(text, /^db_pool_waiting\{service="user"\} 0$/m);
    assert.match(text, /^db_out_of_resources_total\{service="user"\} 0$/m);
    assert.match(text, /^queue_length\{name="password hashing"\} 0$/m);
    assert.match(text, /^listener_connections\{listener="internal"\} [1-9]/m);
    const onPublic = await sendHttp("1.1", replica.publicUrl, { httpMethod: "GET", path: "/metrics", headers: [] });
    assert.equal(onPublic.status, 404);
  });
});
