/** What pages of allowed origins get from the public listener, and all others do not. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MethodOptions_IdempotencyLevel, StructSchema } from "@bufbuild/protobuf/wkt";
import { cors as connectCors, type ServiceImpl } from "@connectrpc/connect";
import { Code } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { exchangeBytes, type HeaderLine, type HttpAnswer, type HttpVersion, sendHttp } from "../testing/http.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";

const service = testService("PageService", {
  Change: { input: StructSchema, output: StructSchema, access: { who: { case: "public", value: {} } } },
  Read: {
    input: StructSchema,
    output: StructSchema,
    access: { who: { case: "public", value: {} } },
    idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
  },
  Mine: { input: StructSchema, output: StructSchema, access: { who: { case: "user", value: {} } } },
});
const change = methodOf<typeof StructSchema, typeof StructSchema>(service, "Change");
const read = methodOf<typeof StructSchema, typeof StructSchema>(service, "Read");
const mine = methodOf<typeof StructSchema, typeof StructSchema>(service, "Mine");

const ALLOWED = "https://app.example.com";
const SECOND = "http://localhost:5173";
/** Everything that is not, letter by letter, one of them. */
const OTHERS = [
  "https://other.example",
  "null",
  "https://evil-app.example.com",
  "https://app.example.com.evil.example",
  "https://app.example.com:443",
  "https://app.example.com/",
  "https://app.example.com:8443",
  "http://app.example.com",
  "https://APP.example.com",
  "https://sub.app.example.com",
  "https://example.com",
  "https://app.example.com, https://other.example",
  "https://app-example.com",
  "http://localhost:51730",
  "http://localhost",
  "*",
  "",
];
const HTTP_VERSIONS: readonly HttpVersion[] = ["1.1", "2"];
const PATH = `/${service.typeName}/Change`;

const headersOf = ({ headers }: HttpAnswer) => new Headers(headers.map(([name, value]) => [name, value]));
const corsHeadersOf = (answer: HttpAnswer) =>
  [...headersOf(answer).keys()].filter((name) => name.startsWith("access-control-"));
const names = (text: string | null) => (text ?? "").toLowerCase().split(", ").sort();

function preflight(http: HttpVersion, url: string, origin: string, headers: readonly HeaderLine[] = [], path = PATH) {
  const asked: HeaderLine[] = [["origin", origin], ["access-control-request-method", "POST"], ...headers];
  // A browser sends no body, and so no length either; over HTTP/1.1 the test's client says 0, as some proxies do.
  return sendHttp(http, url, { httpMethod: "OPTIONS", path, headers: asked });
}

describe("CORS", () => {
  let edge: Edge;
  let handlerRuns = 0;

  before(async () => {
    const count = (message: unknown) => {
      handlerRuns++;
      return message;
    };
    const implementation = { change: count, read: count, mine: count } as unknown as ServiceImpl<typeof service>;
    const implementations = [{ desc: service, implementation }];
    edge = await startEdge({ implementations, allowedOrigins: [ALLOWED, SECOND] });
  });

  after(() => edge[Symbol.asyncDispose]());

  for (const http of HTTP_VERSIONS) {
    test(`S-WEB-01 a preflight of an allowed origin gets that origin back, exactly (HTTP/${http})`, async () => {
      for (const origin of [ALLOWED, SECOND]) {
        const answer = await preflight(http, edge.url, origin, [["access-control-request-headers", "authorization"]]);
        const headers = headersOf(answer);
        assert.equal(answer.status, 204);
        assert.equal(answer.body.length, 0);
        assert.equal(headers.get("access-control-allow-origin"), origin);
        assert.equal(headers.get("vary"), "Origin");
        assert.equal(headers.get("access-control-max-age"), "7200");
        assert.deepEqual(names(headers.get("access-control-allow-methods")), ["get", "post"]);
        const allowed = names(headers.get("access-control-allow-headers"));
        for (const name of [...connectCors.allowedHeaders, "authorization", "consistency-token", "traceparent"]) {
          assert.ok(allowed.includes(name.toLowerCase()), name);
        }
        assert.equal(headers.has("access-control-allow-credentials"), false);
        assert.ok(answer.headers.every(([, value]) => !value.includes("*")));
      }
    });

    test(`S-WEB-01 a preflight of another, a null or a lookalike origin gets nothing (HTTP/${http})`, async () => {
      for (const origin of OTHERS.filter((text) => text !== "")) {
        const answer = await preflight(http, edge.url, origin);
        assert.equal(answer.status, 204, origin);
        assert.deepEqual(corsHeadersOf(answer), [], origin);
        assert.equal(headersOf(answer).get("vary"), "Origin", origin);
      }
      const twice = await preflight(http, edge.url, "https://other.example", [["origin", ALLOWED]]);
      assert.deepEqual(corsHeadersOf(twice), [], "two origins");
    });
  }

  test("S-WEB-01 every answer to an allowed page can be read by it, refusals included, over every wire", async () => {
    const nowhere = `/${service.typeName}/Nope`;
    for (const { what, code, ...call } of [
      { what: "an answer", method: change },
      { what: "a refused caller", method: mine, code: Code.Unauthenticated },
      { what: "an unknown path", method: change, path: nowhere, code: Code.Unimplemented },
      { what: "an unreadable message", method: change, message: Buffer.from([0x0a, 0xff]), code: Code.InvalidArgument },
    ]) {
      for (const wire of allWires) {
        const answer = await callWire(wire, edge.url, { ...call, headers: [["origin", ALLOWED]] });
        const headers = headersOf(answer);
        const label = `${what}, ${wireName(wire)}`;
        assert.equal(answer.code, code, label);
        assert.equal(headers.get("access-control-allow-origin"), ALLOWED, label);
        assert.equal(headers.get("vary"), "Origin", label);
        assert.equal(headers.has("access-control-allow-credentials"), false, label);
        const exposed = names(headers.get("access-control-expose-headers"));
        for (const name of ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"]) {
          assert.ok(exposed.includes(name), `${label}: ${name}`);
        }
      }
    }
  });

  test("S-WEB-01 no other origin can read an answer, over every wire", async () => {
    for (const wire of allWires) {
      for (const origin of [...OTHERS, undefined]) {
        const headers: HeaderLine[] = origin === undefined ? [] : [["origin", origin]];
        const answer = await callWire(wire, edge.url, { method: change, headers });
        assert.deepEqual(corsHeadersOf(answer), [], `${origin} ${wireName(wire)}`);
      }
    }
  });

  test("a GET, which needs no preflight, is answered to all and read by the allowed; no cache mixes them up", async () => {
    for (const http of HTTP_VERSIONS) {
      for (const origin of [ALLOWED, "https://other.example", undefined]) {
        const wire = { protocol: "connect", encoding: "json", http } as const;
        const answer = await callWire(wire, edge.url, {
          method: read,
          httpMethod: "GET",
          headers: origin === undefined ? [] : [["origin", origin]],
        });
        assert.equal(answer.status, 200);
        assert.equal(headersOf(answer).get("access-control-allow-origin"), origin === ALLOWED ? ALLOWED : null);
        assert.equal(headersOf(answer).get("vary"), "Origin");
      }
    }
  });

  test("S-WEB-02 what a form or a script may send without a preflight changes nothing, cookies or not", async () => {
    const types = [
      "text/plain",
      "text/plain;charset=UTF-8",
      "text/plain; application/json",
      "application/x-www-form-urlencoded",
      "multipart/form-data; boundary=x",
      undefined, // a Blob without a type, or a beacon
    ];
    for (const http of HTTP_VERSIONS) {
      for (const origin of [ALLOWED, "https://other.example", "null"]) {
        for (const type of types) {
          handlerRuns = 0;
          const answer = await sendHttp(http, edge.url, {
            httpMethod: "POST",
            path: PATH,
            headers: [
              ["origin", origin],
              ["cookie", "session=1; authorization=Bearer"],
              ...(type === undefined ? [] : [["content-type", type] as const]),
            ],
            body: Buffer.from("{}"),
          });
          assert.deepEqual([answer.status, handlerRuns], [415, 0], `${type} from ${origin} over HTTP/${http}`);
          assert.equal(edge.seen.at(-1)!.bodyRead, false);
          assert.equal(headersOf(answer).has("set-cookie"), false);
        }
      }
    }
  });

  test("S-WEB-06 an origin of 1 MB is refused with the headers, and nothing is sent back of it", async () => {
    const origin = `https://${"a".repeat(1024 * 1024)}`;
    const answer = await preflight("1.1", edge.url, origin);
    assert.equal(answer.status, 431);
    assert.ok(JSON.stringify(answer).length < 1_000);
    await assert.rejects(preflight("2", edge.url, origin));
    assert.equal((await preflight("2", edge.url, ALLOWED)).status, 204);
  });

  test("S-WEB-06 thousands of requested headers: 431 over the limit, below it the answer that anybody gets", async () => {
    const many = (count: number): HeaderLine[] => [
      ["access-control-request-headers", Array.from({ length: count }, (_, index) => `x-${index}`).join(",")],
    ];
    for (const http of HTTP_VERSIONS) {
      for (const origin of [ALLOWED, "https://other.example"]) {
        const [usual, long] = [
          await preflight(http, edge.url, origin),
          await preflight(http, edge.url, origin, many(2_000)),
        ];
        const withoutDate = ({ status, headers }: HttpAnswer) => [status, headers.filter(([name]) => name !== "date")];
        assert.equal(long.status, 204);
        assert.deepEqual(withoutDate(long), withoutDate(usual));
        assert.ok(JSON.stringify(long.headers).length < 1_000);
      }
    }
    assert.equal((await preflight("1.1", edge.url, ALLOWED, many(20_000))).status, 431);
    await assert.rejects(preflight("2", edge.url, ALLOWED, many(20_000)));
  });

  test("a page reads that it called too often, and its preflights count for nothing", async () => {
    const clock = createTestClock();
    const options = { implementations: [], allowedOrigins: [ALLOWED], requestsPerSecond: 1, clock };
    await using limited = await startEdge(options);
    for (const wire of allWires) {
      const call = () => callWire(wire, limited.url, { method: change, headers: [["origin", ALLOWED]] });
      let answer = await call();
      for (let calls = 1; calls < 3 && answer.code !== Code.ResourceExhausted; calls++) answer = await call();
      assert.equal(answer.code, Code.ResourceExhausted, wireName(wire));
      assert.equal(headersOf(answer).get("access-control-allow-origin"), ALLOWED, wireName(wire));
      assert.equal((await preflight(wire.http, limited.url, ALLOWED)).status, 204);
    }
  });

  test("a preflight is answered on every path, keeps its connection, and is no call", async () => {
    const linesBefore = edge.logLines.length;
    for (const http of HTTP_VERSIONS) {
      for (const path of ["/nope", "/", "*"]) {
        assert.equal((await preflight(http, edge.url, ALLOWED, [], path)).status, 204, `${path} over HTTP/${http}`);
      }
    }
    const question = `OPTIONS ${PATH} HTTP/1.1\r\nhost: x\r\norigin: ${ALLOWED}\r\naccess-control-request-method: POST\r\n`;
    const answers = await exchangeBytes(edge.url, Buffer.from(`${question}\r\n${question}connection: close\r\n\r\n`));
    assert.equal(answers.toString().split("HTTP/1.1 204 ").length - 1, 2);
    assert.equal(edge.logLines.length, linesBefore);
  });

  test("OPTIONS without an origin, without a method or with a body is no preflight", async () => {
    const [origin, method]: HeaderLine[] = [
      ["origin", ALLOWED],
      ["access-control-request-method", "POST"],
    ];
    for (const http of HTTP_VERSIONS) {
      for (const headers of [[], [origin!], [method!]]) {
        const answer = await sendHttp(http, edge.url, { httpMethod: "OPTIONS", path: PATH, headers });
        assert.equal(answer.status, 405, `${JSON.stringify(headers)} over HTTP/${http}`);
      }
      const body = Buffer.alloc(100_000);
      const headers = [origin!, method!];
      const answer = await sendHttp(http, edge.url, { httpMethod: "OPTIONS", path: PATH, headers, body });
      assert.equal(answer.status, 405);
      assert.equal(edge.seen.at(-1)!.bodyRead, false);
    }
  });

  test("without configured origins there is no CORS at all", async () => {
    await using closed = await startEdge({ implementations: [] });
    for (const http of HTTP_VERSIONS) {
      const answer = await preflight(http, closed.url, ALLOWED);
      assert.equal(answer.status, 404);
      assert.deepEqual(corsHeadersOf(answer), []);
      assert.equal(headersOf(answer).has("vary"), false);
    }
  });
});
