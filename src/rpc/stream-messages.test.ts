/** Messages of a stream that are wrong, and handlers that throw between them: what ends the stream, and what is logged. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import type { HandlerContext } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import type { SayHelloRequest } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { allWays, openClient, wayName } from "../testing/clients.ts";
import type { Edge } from "../testing/edge.ts";
import { type HeaderLine, sendHttp } from "../testing/http.ts";
import {
  ann,
  assertEnd,
  echoNames,
  endOf,
  handlers,
  type Names,
  nameOf,
  resetStreams,
  type StreamClient,
  seen,
  service,
  startStreams,
  streams,
} from "../testing/stream-service.ts";
import { until } from "../testing/until.ts";
import { frameMessage } from "../testing/wire.ts";

const SECRET = "hunter2-51ad7";

beforeEach(resetStreams);

describe("each message of a stream", () => {
  let edge: Edge;
  before(async () => {
    edge = await startStreams();
  });
  after(() => edge[Symbol.asyncDispose]());
  beforeEach(echoNames);

  const wrong: [what: string, name: string][] = [
    ["breaks a rule of the contract", ""],
    ["breaks another", "x".repeat(101)],
    ["has text that cannot be stored", "An\0n"],
  ];
  for (const [what, name] of wrong) {
    test(`is refused as INVALID_REQUEST when it ${what}; the handler has seen those before it only`, async () => {
      async function* names(): Names {
        yield { name: "Ann" };
        yield { name };
        yield { name: "Zoë" };
      }
      for (const way of allWays) {
        for (const kind of way.http === "2" ? (["upload", "talk"] as const) : (["upload"] as const)) {
          seen.names.length = 0;
          using opened = openClient<StreamClient>(service, way, edge.url);
          const call = async () => {
            if (kind === "upload") await opened.client.upload(names());
            else for await (const { message } of opened.client.talk(names())) assert.equal(message, "Ann");
          };
          await assert.rejects(call(), (thrown) => {
            const error = ConnectError.from(thrown);
            assert.deepEqual([error.code, reasonOf(error)], [Code.InvalidArgument, "INVALID_REQUEST"], wayName(way));
            if (name.length !== 4) assert.equal(error.findDetails(ViolationsSchema).length, 1);
            return true;
          });
          assert.deepEqual(seen.names, ["Ann"], `${kind} ${wayName(way)}`);
        }
      }
    });
  }

  test("is refused when it is the one of a stream of answers", async () => {
    for (const way of allWays) {
      using opened = openClient<StreamClient>(service, way, edge.url);
      await assert.rejects(opened.client.download({ name: "" })[Symbol.asyncIterator]().next(), (error) => {
        assert.equal(reasonOf(error), "INVALID_REQUEST");
        return true;
      });
    }
    assert.equal(seen.started, 0);
  });

  const malformed: Record<string, Buffer> = {
    "bytes that are no message": frameMessage(Buffer.from([0x0a, 0xff, 1])),
    "text that is no UTF-8": frameMessage(Buffer.from([0x0a, 1, 0xff])),
    "a frame that breaks off": ann.subarray(0, 7),
    "half a frame header": ann.subarray(0, 3),
  };
  for (const [what, bytes] of Object.entries(malformed)) {
    test(`is refused as MALFORMED_MESSAGE when it is ${what}, and that is no fault of ours`, async () => {
      for (const method of ["Upload", "Talk"]) {
        for (const type of ["application/grpc", "application/grpc-web", "application/connect+proto"]) {
          edge.logLines.length = 0;
          const path = `/${service.typeName}/${method}`;
          const headers: HeaderLine[] = [["content-type", type]];
          await sendHttp("2", edge.url, { httpMethod: "POST", path, headers, body: Buffer.concat([ann, bytes]) });
          const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
          assert.deepEqual(
            [line.level, line.code, line.reason],
            ["info", "InvalidArgument", "MALFORMED_MESSAGE"],
            `${method} ${type}`,
          );
        }
      }
    });
  }
});

describe("a handler that throws in the middle of a stream", () => {
  for (const one of streams) {
    test(`is "internal error" to the client, and one fault in the log (${nameOf(one)})`, async () => {
      await using edge = await startStreams();
      handlers.download = async function* () {
        yield { message: "open" };
        throw new Error(`password=${SECRET} at pg`);
      };
      handlers.upload = async (input) => {
        for await (const { name } of input) throw new Error(`password=${SECRET} of ${name}`);
        return { message: "" };
      };
      handlers.talk = () => handlers.download({} as SayHelloRequest, {} as HandlerContext);
      using opened = openClient<StreamClient>(service, one.way, edge.url);
      const error = await endOf(opened.client, one.kind);
      assertEnd(error, Code.Internal, "INTERNAL", "internal error", nameOf(one));
      await until("the log line", () => edge.logLines.length > 0);
      const faults = edge.logLines.filter(({ level }) => level === "error");
      assert.deepEqual([faults.length, faults[0]!.code, faults[0]!.reason], [1, "Internal", "INTERNAL"]);
      assert.match(JSON.stringify(faults), /password=\[redacted\]/);
      assert.ok(!JSON.stringify([edge.logLines, error.message, error.details]).includes(SECRET));
    });
  }
});
