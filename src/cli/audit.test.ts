/** `concierge audit` against a running auth. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Sql } from "postgres";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { connect } from "../db/connection.ts";
import { ExitCode } from "../errors.ts";
import { auth } from "../services/auth/service.ts";
import { runHere } from "../testing/command.ts";
import { startTestService, type TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { writeSecret } from "../token/key-folder.ts";

describe("concierge audit", () => {
  let system: TestSystem;
  let owner: Sql;
  let folder: string;

  const operator = () => system.asService(AuthInternalService, "operator", "auth");
  /** The command's clock is the real one, so the system's must not be behind. */
  const concierge = async (...args: string[]) => {
    await system.advance(Math.max(0, systemClock.now() - system.clock.now()));
    return runHere(["audit", ...args, "--url", system.internalUrl, "--keys", folder]);
  };

  before(async () => {
    system = await startTestService(auth);
    await system.server.ready;
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
    folder = await mkdtemp(join(tmpdir(), "concierge-audit-"));
    await writeSecret(join(folder, "operator.json"), { keys: [system.keyOf("operator", "auth")] });
  });

  after(async () => {
    await owner.end();
    await rm(folder, { recursive: true, force: true });
    await system[Symbol.asyncDispose]();
  });

  test("`concierge audit list` prints entries for people and for programs", async () => {
    const { userId, email } = await system.newUser();
    const client = system.asUser(AuthService);
    await assert.rejects(client.login({ email, password: "wrong" }));
    await operator().disableAccount({ userId });
    const people = await concierge("list", "--user-id", userId, "--action", "login");
    assert.equal(people.code, ExitCode.ok, people.stderr);
    const lines = people.stdout.trim().split("\n");
    assert.equal(lines.length, 2);
    assert.match(
      lines[0]!,
      new RegExp(`^\\S+Z login refused \\(bad_credentials\\) about ${userId} by anonymous from 127\\.0\\.0\\.1$`),
    );
    const programs = await concierge("list", "--user-id", userId, "--limit", "2", "--json", "--since", "2020-01-01");
    const entries = programs.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      entries.map(({ action }) => action),
      ["account_disabled", "login"],
    );
  });

  test("`concierge audit verify` says where the chain ends, and fails where it is broken", async () => {
    await system.newUser();
    await system.newUser();
    await until("all entries are chained", async () => {
      const [row] = await owner`
        select (select count(*) from audit_log) = (select count(*) from audit_chain) as all_chained`;
      return row!.all_chained;
    });
    const { code, stdout, stderr } = await concierge("verify");
    assert.equal(code, ExitCode.ok, stderr);
    assert.match(stdout, /^\d+ entries fit their chain, which ends at \d+ with [0-9a-f]{64}\n$/);
    await owner`update audit_log set actor = 'nobody' where id = 3`;
    const [link] = await owner`select position from audit_chain where audit_id = 3`;
    const broken = await concierge("verify");
    assert.deepEqual([broken.code, broken.stdout], [ExitCode.failure, ""]);
    assert.match(broken.stderr, new RegExp(`the chain is broken at ${link!.position}\\b`));
  });
});
