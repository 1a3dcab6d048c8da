/** A service starts on what expansions of a newer release have made, and says so; on any other newer schema it does not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./db/connection.ts";
import { ExitCode } from "./errors.ts";
import { user } from "./services/user/service.ts";
import { startTestService } from "./testing/system.ts";
import { until } from "./testing/until.ts";

test("R-DEP-08 S-INJ-07 a service starts beside the expansions of a newer release and says so, and beside nothing else", async () => {
  await using system = await startTestService(user);
  const owner = connect(system.database("user").ownerUrl, { applicationName: "test" });
  await using closing = new AsyncDisposableStack();
  closing.defer(() => owner.end());
  await owner`insert into concierge_migration (series, name, checksum, is_expansion) values ('user', '9000_x', '', true)`;
  await using _beside = await system.startReplica();
  const said = () => system.logLines.find(({ msg }) => msg === "the database is ahead by expansions");
  await until("it has said so", async () => said() !== undefined);
  const { service, migrations, level } = said()!;
  assert.deepEqual({ service, migrations, level }, { service: "user", migrations: ["user/9000_x.sql"], level: "warn" });
  await owner`update concierge_migration set is_expansion = false where name = '9000_x'`;
  await using refused = await system.startReplica();
  await assert.rejects(refused.ready, { exitCode: ExitCode.config, message: /user\/9000_x\.sql: applied/ });
});
