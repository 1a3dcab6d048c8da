/** `concierge notifications` against a running notification. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { NotificationInternalService, Outcome } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode } from "../errors.ts";
import { auth } from "../services/auth/service.ts";
import { notification } from "../services/notification/service.ts";
import { runHere } from "../testing/command.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { writeSecret } from "../token/key-folder.ts";

const REJECTED = "messaging/mismatched-credential";
const NONE = "0 recipients are to be tried again\n";
const QUOTA = "messaging/message-rate-exceeded";

describe("concierge notifications", () => {
  let system: TestSystem;
  let folder: string;

  const backend = () => system.asService(NotificationInternalService, "backend", "notification");
  /** The command's clock is the real one, so the system's must not be behind. */
  const concierge = async (...args: string[]) => {
    await system.advance(Math.max(0, systemClock.now() - system.clock.now()));
    return runHere(["notifications", ...args, "--url", system.internalUrl, "--keys", folder]);
  };
  const succeed = async (...args: string[]) => {
    const { code, stdout, stderr } = await concierge(...args);
    assert.equal(code, ExitCode.ok, stderr);
    return stdout;
  };

  /** A notification for so many people that was given up for all of them. */
  async function giveUp(people: number, code: string): Promise<string> {
    const userIds = Array.from({ length: people }, () => crypto.randomUUID());
    const { notificationId } = await backend().createNotification({ text: "lost", userIds });
    const { leaseToken } = await backend().claim({ limit: people });
    const outcomes = userIds.map((userId) => ({ notificationId, userId, outcome: Outcome.FAILED, code }));
    await backend().markProcessed({ leaseToken, outcomes });
    return notificationId;
  }

  before(async () => {
    system = await startTestSystem({ definitions: [auth, notification] });
    folder = await mkdtemp(join(tmpdir(), "concierge-notifications-"));
    await writeSecret(join(folder, "operator.json"), { keys: [system.keyOf("operator", "notification")] });
  });

  after(async () => {
    await rm(folder, { recursive: true, force: true });
    await system[Symbol.asyncDispose]();
  });

  test("they look at the queue, list what was given up, and let it be tried again", async () => {
    assert.match(await succeed("status"), /^all +0$/m);
    const rejected = await giveUp(2, REJECTED);
    const throttled = await giveUp(3, QUOTA);
    await backend().createNotification({ text: "waits", userIds: [crypto.randomUUID()] });

    const shown = await succeed("status");
    assert.match(shown, /^all +1$/m);
    assert.match(shown, /^leased by a sender +0$/m);
    assert.match(shown, /^oldest, in seconds +\d+\.\d$/m);
    assert.match(shown, new RegExp(`^${QUOTA} +3\n${REJECTED} +2$`, "m"));
    const status = JSON.parse(await succeed("status", "--json"));
    assert.deepEqual([status.pending, status.leased, status.deadByCode], [1, 0, { [QUOTA]: 3, [REJECTED]: 2 }]);

    const lines = (await succeed("dead", "--limit", "4")).trim().split("\n");
    assert.equal(lines.length, 4);
    const [, id] = new RegExp(`^\\S+Z ${QUOTA} after \\d failed tr\\w+: (\\S+) to \\S+$`).exec(lines[0]!) ?? [];
    assert.equal(id, throttled);
    const json = (await succeed("dead", "--code", REJECTED, "--json")).trim().split("\n");
    assert.deepEqual(
      json.map((line) => JSON.parse(line).notificationId),
      [rejected, rejected],
    );

    const refused = await concierge("redrive", "--notification", "x");
    assert.equal(refused.code, ExitCode.failure);
    assert.match(refused.stderr, /^concierge: InvalidArgument INVALID_REQUEST: .*notification_id/);
    assert.equal(await succeed("redrive", "--notification", throttled, "--code", REJECTED), NONE);
    assert.equal(await succeed("redrive", "--notification", throttled), "3 recipients are to be tried again\n");
    assert.equal(await succeed("redrive", "--code", QUOTA), NONE);
    const { stdout, stderr } = await concierge("redrive");
    assert.deepEqual([stdout, stderr], ["2 recipients are to be tried again\n", "concierge: 2 so far\n"]);
    assert.match(await succeed("status"), /^all +6$/m);
    assert.equal(await succeed("dead"), "");
  });
});
