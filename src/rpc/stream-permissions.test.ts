/** A stream that takes a permission ends within a second once the person does not hold it any more. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { Code, reasonOf } from "../errors.ts";
import { NO_REVISIONS } from "../rights/revisions.ts";
import { noRights, type Rights, setOf } from "../rights/rights.ts";
import { allWays, openClient, wayName } from "../testing/clients.ts";
import { testService } from "../testing/contract.ts";
import { type EdgeOptions, startEdge } from "../testing/edge.ts";
import { until } from "../testing/until.ts";
import { authStale } from "../token/session-check.ts";

const PERMISSION = "members:read";
const service = testService("MembersService", {
  Watch: {
    ...{ input: EmptySchema, output: EmptySchema, stream: "server" },
    access: { who: { case: "permission", value: { name: PERMISSION } } },
  },
});
type WatchClient = { watch(input: object): AsyncIterable<unknown> };

const held: Rights = {
  ...{ standing: "active", roles: ["member"], permissions: setOf([PERMISSION]), branches: new Map() },
  revisions: NO_REVISIONS,
};
const missing = [Code.PermissionDenied, "PERMISSION_MISSING"];
const ENDS: [what: string, then: () => Rights | Promise<Rights>, expected: unknown[]][] = [
  ["the person was removed", () => noRights("none", NO_REVISIONS), missing],
  ["the organization was suspended", () => noRights("suspended", NO_REVISIONS), missing],
  ["the permission was taken", () => ({ ...held, permissions: setOf(["branches:read"]) }), missing],
  ["nobody can tell", () => Promise.reject(authStale()), [Code.Unavailable, "AUTH_STALE"]],
];

for (const [what, then, expected] of ENDS) {
  test(`S-TEN-06 a stream ends when ${what}, in every protocol`, async () => {
    let isOver = false;
    let open = 0;
    const rightsOf: NonNullable<EdgeOptions["rights"]>["rightsOf"] = async () => {
      return { rights: isOver ? await then() : held, freshAt: 0 };
    };
    const watch = async function* (_: unknown, { signal }: HandlerContext) {
      open++;
      yield {};
      if (!signal.aborted) await once(signal, "abort");
    };
    const implementation = { watch } as unknown as ServiceImpl<typeof service>;
    const implementations = [{ desc: service, implementation }];
    await using edge = await startEdge({ implementations, rights: { rightsOf, follow: () => [] } });
    const bearer = edge.bearer(crypto.randomUUID());
    const ends = allWays.map(async (way) => {
      using opened = openClient<WatchClient>(service, way, edge.url, [bearer]);
      try {
        for await (const _ of opened.client.watch({}));
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        return [error.code, reasonOf(error), wayName(way)];
      }
      return assert.fail("it ended without an error");
    });
    await until("they are open", () => open === allWays.length);
    isOver = true;
    assert.deepEqual(
      await Promise.all(ends),
      allWays.map((way) => [...expected, wayName(way)]),
    );
  });
}
