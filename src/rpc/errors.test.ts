/** What a client and the log see of whatever is thrown: one code, one reason, fixed words, and nothing of the inside. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";
import { sql } from "drizzle-orm";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { connect } from "../db/connection.ts";
import { type Database, openDatabase, transaction } from "../db/database.ts";
import { Code, fail } from "../errors.ts";
import { type TestDatabase, testDatabase } from "../testing/cluster.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";
import { publicError } from "./errors.ts";

const service = testService("FailingService", {
  Fail: { input: EmptySchema, output: EmptySchema, access: { who: { case: "public", value: {} } } },
  Misfit: { input: EmptySchema, output: ErrorInfoSchema, access: { who: { case: "public", value: {} } } },
});
const method = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Fail");
const SECRET = "hunter2-9f31c";

let act: (context: HandlerContext) => unknown;
const implementation = {
  fail: (_: unknown, context: HandlerContext) => act(context),
  misfit: () => ({ reason: 5 }),
};

/** An error as a client of another service gets it: with that service's reason. */
function answeredByPeer(code: Code): ConnectError {
  const error = fail(code, "ACCOUNT_NOT_FOUND", SECRET);
  return Object.assign(error, { isWireError: true });
}

for (const fastPath of [true, false])
  describe(`errors (fast path ${fastPath})`, () => {
    let edge: Edge;

    before(async () => {
      const implementations = [
        { desc: service, implementation: implementation as unknown as ServiceImpl<typeof service> },
      ];
      edge = await startEdge({ implementations, fastPath });
    });

    after(() => edge[Symbol.asyncDispose]());

    beforeEach(() => {
      edge.logLines.length = 0;
    });

    const throws: Record<string, () => unknown> = {
      "an error with a secret": () => new Error(`password=${SECRET} at pg`),
      "an error with a secret in its cause": () => new Error("wrapped", { cause: new Error(`password=${SECRET}`) }),
      "a rejected query": () =>
        Object.assign(new Error(`Failed query: ${SECRET}`), { query: "select", params: [SECRET] }),
      "an aggregate": () => new AggregateError([new Error(SECRET)], "several"),
      "an error of Connect's that we did not make": () => new ConnectError("nobody meant this", Code.NotFound),
      "a peer's answer that nobody translated": () => answeredByPeer(Code.NotFound),
      "a peer that knows us not": () => answeredByPeer(Code.Unauthenticated),
      "a text": () => "just a text",
      undefined: () => undefined,
      null: () => null,
    };
    for (const [name, make] of Object.entries(throws)) {
      test(`S-LOG-02 a handler that throws ${name}: "internal error" outside, a fault inside`, async () => {
        act = () => {
          throw make();
        };
        for (const wire of allWires) {
          edge.logLines.length = 0;
          const answer = await callWire(wire, edge.url, { method });
          const { code, message, reason } = answer;
          assert.deepEqual(
            { code, message, reason },
            { code: Code.Internal, message: "internal error", reason: "INTERNAL" },
          );
          const sent = JSON.stringify([answer.headers, answer.trailers, String(answer.body)]);
          assert.ok(!sent.includes(SECRET), wireName(wire));
          if (wire.protocol === "connect") assert.equal(answer.status, 500);
          const [line] = edge.logLines;
          assert.deepEqual([line!.level, line!.code, line!.reason], ["error", "Internal", "INTERNAL"], wireName(wire));
        }
        // The peer's words are public already; everything else that could be a secret is masked.
        if (!name.startsWith("a peer")) assert.ok(!JSON.stringify(edge.logLines).includes(`password=${SECRET}`));
      });
    }

    test("an answer that does not fit the contract is our fault, not the client's message", async () => {
      // The binary form writes the number as text; JSON refuses it.
      for (const wire of allWires.filter(({ protocol, encoding }) => protocol === "connect" && encoding === "json")) {
        edge.logLines.length = 0;
        const misfit = methodOf<typeof EmptySchema, typeof ErrorInfoSchema>(service, "Misfit");
        const { code, reason } = await callWire(wire, edge.url, { method: misfit });
        assert.deepEqual({ code, reason }, { code: Code.Internal, reason: "INTERNAL" }, wireName(wire));
        assert.equal(edge.logLines[0]!.level, "error", wireName(wire));
      }
    });

    test("S-LOG-02 the log has the stack of what was thrown, without the secret", async () => {
      act = async function nameInTheStack() {
        throw new Error(`password=${SECRET} at pg`);
      };
      edge.logLines.length = 0;
      await callWire(allWires[0]!, edge.url, { method });
      const error = edge.logLines[0]!.error as { message: string; stack: string[] };
      assert.match(error.stack.join("\n"), /nameInTheStack/);
      assert.match(error.message, /^password=\[redacted\]/);
      assert.ok(!JSON.stringify(edge.logLines).includes(SECRET));
    });

    test("S-LOG-02 a fault that happens when nobody waits any more is not answered, and ends nothing", async () => {
      const late = Promise.withResolvers<void>();
      act = ({ signal }) =>
        new Promise((_, reject) =>
          signal.addEventListener("abort", () => late.promise.then(() => reject(new Error(SECRET)))),
        );
      const headers = [["connect-timeout-ms", "20"] as const];
      const { reason } = await callWire(allWires[0]!, edge.url, { method, headers });
      assert.equal(reason, "DEADLINE_EXCEEDED");
      late.resolve();
      await delay(0);
      act = () => ({});
      assert.ok((await callWire(allWires[0]!, edge.url, { method })).answer);
    });

    test("an error that was made for the client reaches it whole, with its reason, domain and time to wait", async () => {
      act = () => {
        throw fail(Code.ResourceExhausted, "TOO_MANY_HASHES", "try again", {
          retryAfterMs: 1_500,
          cause: new Error(SECRET),
        });
      };
      const transport = createGrpcWebTransport({ baseUrl: edge.url, httpVersion: "1.1" });
      const client = createClient(service, transport) as unknown as { fail(request: object): Promise<unknown> };
      const error = await client.fail({}).then(() => assert.fail("it was not refused"), ConnectError.from);
      assert.deepEqual([error.code, error.rawMessage], [Code.ResourceExhausted, "try again"]);
      const [info] = error.findDetails(ErrorInfoSchema);
      assert.deepEqual([info!.reason, info!.domain], ["TOO_MANY_HASHES", "concierge"]);
      const [retry] = error.findDetails(RetryInfoSchema);
      assert.deepEqual([retry!.retryDelay!.seconds, retry!.retryDelay!.nanos], [1n, 500_000_000]);
      assert.ok(!JSON.stringify(edge.logLines).includes(SECRET));
    });

    test("S-LOG-09 no header tells what serves", async () => {
      act = () => ({});
      for (const wire of allWires) {
        const { headers } = await callWire(wire, edge.url, { method });
        const names = headers.map(([name]) => name);
        for (const name of ["server", "x-powered-by", "via"])
          assert.ok(!names.includes(name), `${wireName(wire)} ${name}`);
      }
    });

    describe("S-LOG-04 errors of a real database", () => {
      let fresh: TestDatabase;
      let database: Database;

      before(async () => {
        fresh = await testDatabase();
        const owner = connect(fresh.ownerUrl, { applicationName: "owner" });
        await owner`create table secret_parent (id text constraint secret_parent_key primary key)`;
        await owner`create table secret_child (id text constraint secret_child_parent references secret_parent)`;
        await owner`insert into secret_parent values (${SECRET})`;
        await owner.end();
        const limits = { lockTimeoutMs: 50 };
        database = openDatabase({ url: fresh.ownerUrl, poolSize: 4, applicationName: "errors-test", ...limits });
      });

      after(async () => {
        await database[Symbol.asyncDispose]();
        await fresh[Symbol.asyncDispose]();
      });

      const raise = (state: string) =>
        sql.raw(`do $$ begin raise exception '${SECRET}' using errcode = '${state}'; end $$`);
      const cases: [what: string, run: () => Promise<unknown>, code: Code, reason: string][] = [
        [
          "a unique violation",
          () => database.db.execute(sql`insert into secret_parent values (${SECRET})`),
          Code.AlreadyExists,
          "ALREADY_EXISTS",
        ],
        [
          "a foreign key violation",
          () => database.db.execute(sql`insert into secret_child values (${`${SECRET}-nobody`})`),
          Code.NotFound,
          "NOT_FOUND",
        ],
        [
          "a serialization failure",
          () => transaction(database.db, (tx) => tx.execute(raise("40001"))),
          Code.Aborted,
          "CONFLICT",
        ],
        ["a deadlock", () => database.db.execute(raise("40P01")), Code.Aborted, "CONFLICT"],
        [
          "a statement that takes too long",
          () => {
            const settings = { statement_timeout: "200" };
            return transaction(database.db, (tx) => tx.execute(sql`select pg_sleep(5)`), { settings });
          },
          Code.DeadlineExceeded,
          "DEADLINE_EXCEEDED",
        ],
        ["a lock that is not had in time", () => lockTwice(database), Code.Aborted, "CONFLICT"],
        [
          "text that cannot be stored",
          () => database.db.execute(sql`select ${"a\0b"}::text`),
          Code.InvalidArgument,
          "INVALID_REQUEST",
        ],
        ["a full disk", () => database.db.execute(raise("53100")), Code.Unavailable, "DATABASE_UNAVAILABLE"],
        [
          "a server that shuts down",
          () => database.db.execute(raise("57P01")),
          Code.Unavailable,
          "DATABASE_UNAVAILABLE",
        ],
        [
          "a mistake in the SQL",
          () => database.db.execute(sql`select ${SECRET} from no_such_table`),
          Code.Internal,
          "INTERNAL",
        ],
        ["a check violation", () => database.db.execute(raise("23514")), Code.Internal, "INTERNAL"],
      ];
      for (const [what, run, code, reason] of cases) {
        test(`S-LOG-04 ${what}: ${Code[code]} / ${reason}, and no name, value or statement anywhere`, async () => {
          act = run;
          edge.logLines.length = 0;
          for (const wire of [allWires[2]!, allWires[5]!]) {
            const answer = await callWire(wire, edge.url, { method });
            assert.deepEqual([answer.code, answer.reason], [code, reason], answer.message);
            const sent = JSON.stringify([answer.headers, answer.trailers, String(answer.body)]);
            assert.doesNotMatch(sent, /hunter2|secret_|select|insert|no_such_table/);
          }
          assert.doesNotMatch(JSON.stringify(edge.logLines), /hunter2|select |insert |no_such_table/);
          assert.equal(edge.logLines.length, 2);
        });
      }
    });
  });

/** Asks for a lock that another transaction holds. */
async function lockTwice({ db }: Database): Promise<void> {
  await db.transaction(async (holder) => {
    await holder.execute(sql`select 1 from secret_parent for update`);
    await db.execute(sql`select 1 from secret_parent for update`);
  });
}

test("a peer that is silent is a dependency that does not answer; one that answered is a fault of ours", () => {
  const table: [Code, Code, string | undefined][] = [
    [Code.Unavailable, Code.Unavailable, "DEPENDENCY_UNAVAILABLE"],
    [Code.DeadlineExceeded, Code.Unavailable, "DEPENDENCY_UNAVAILABLE"],
    [Code.PermissionDenied, Code.Internal, "INTERNAL"],
    [Code.Canceled, Code.Internal, "INTERNAL"],
  ];
  for (const [answered, code, reason] of table) {
    const error = publicError(answeredByPeer(answered));
    assert.deepEqual([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason], [code, reason], Code[answered]);
    assert.ok(!error.message.includes(SECRET));
  }
});
