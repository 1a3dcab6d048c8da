/** A service with rows of many organizations: calls get the run-time role, followers and jobs the job role. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { AccountDeletedSchema } from "../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import type { Db, Tx } from "./db/database.ts";
import { ExitCode, StartupError } from "./errors.ts";
import { on } from "./feed/follower.ts";
import { defineService, tenantDatabaseConfig } from "./service.ts";
import { access } from "./services/access/service.ts";
import { auth } from "./services/auth/service.ts";

import { organization } from "./services/organization/service.ts";
import { user } from "./services/user/service.ts";
import { startTestSystem } from "./testing/system.ts";
import { until } from "./testing/until.ts";

async function roleOf(db: Db | Tx): Promise<unknown> {
  return (await db.execute(sql`select current_user as role`))[0]?.role;
}

const usernameOf = (url: string) => new URL(url).username;

/** user with a job role, and who did what in its database. */
function tenantUser() {
  const roles: Record<string, unknown> = {};
  const effect = async (tx: Tx) => {
    roles.effect = await roleOf(tx);
  };
  const definition = defineService({
    ...user,
    config: { ...user.config, ...tenantDatabaseConfig },
    async start(context) {
      const run = async () => {
        roles.job = await roleOf(context.jobDb);
        roles.call = await roleOf(context.db);
      };
      return {
        ...(await user.start(context)),
        followers: [{ source: "auth", effects: [on(AccountDeletedSchema, effect)] }],
        jobs: [{ name: "look who it is", everyMs: 60_000, run }],
      };
    },
  });
  return { definition, roles };
}

test("calls have the run-time role, jobs and effects of others' events the job role", async () => {
  const { definition, roles } = tenantUser();
  await using system = await startTestSystem({ definitions: [auth, access, organization, definition] });
  const { accessToken, password } = await system.newUser();
  await system.asUser(AuthService, accessToken).deleteMyAccount({ currentPassword: password });
  await until("the job and the effect are done", () => "effect" in roles && "call" in roles);
  const { runtimeUrl, jobUrl, ownerUrl } = system.database("user");
  const [call, job] = [usernameOf(runtimeUrl), usernameOf(jobUrl)];
  assert.notEqual(call, job);
  assert.deepEqual(roles, { call, job, effect: job });
  await using replica = await system.startReplica({ CONCIERGE_USER_DATABASE_URL: ownerUrl });
  await assert.rejects(replica.ready, (error) => {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, ExitCode.config);
    assert.match(error.message, /^user: the database does not keep organizations apart:\n/);
    return true;
  });
});
