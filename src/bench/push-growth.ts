/**
 * Growth (P9): a page of an inbox and the count of what is not read, for somebody with 100 notifications and with 100,000, each
 * among 100,000 of others: a table of nothing else would be read whole.
 */
import { NotificationService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { connect } from "../db/connection.ts";
import type { Goals } from "../prove/figures.ts";
import { services } from "../services.ts";
import { testDatabase } from "../testing/cluster.ts";
import { startTestSystem } from "../testing/system.ts";
import { compareGrowth, fillTables, openColdServer, type Size } from "./growth.ts";
import { recordStatements, type SentStatement } from "./recorded-statements.ts";

const FEW = 100;
const MANY = 100_000;
const PERSON = "00000000-0000-4000-8000-000000000001";

export async function measureInboxes(goals: Goals): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const { recorded, inboxes } = await openColdServer(prepare, opened);
  for (const [what, statement] of Object.entries(recorded.statements)) {
    const sizes = inboxes.map(({ count, url }): Size => {
      const sql = connect(url, { applicationName: "bench" });
      opened.defer(() => sql.end({ timeout: 1 }));
      const parameters = statement.parameters.map((value) => (value === recorded.userId ? PERSON : value));
      return { name: `${count} notifications`, sql, parameters: () => parameters };
    });
    await compareGrowth(goals, what, statement.query, sizes as [Size, Size]);
  }
}

async function prepare() {
  const recorded = await recordInbox();
  const inboxes: { count: number; url: string }[] = [];
  for (const count of [FEW, MANY]) {
    // They go with the folder.
    const { ownerUrl, runtimeUrl } = await testDatabase(["platform", "notification"]);
    await fillTables(ownerUrl, FILL, count);
    inboxes.push({ count, url: runtimeUrl });
  }
  return { recorded, inboxes };
}

/** UUIDs in order. */
const idOf = (group: string) => `('00000000-0000-7000-${group}-' || lpad(to_hex(n), 12, '0'))::uuid`;

/** The person's, of which the newest 100 are not read, among as many as there may be of others, each for somebody else. */
const FILL = [
  ["8000", `'${PERSON}'::uuid`, "$1::int"],
  ["9000", "gen_random_uuid()", `greatest($1::int, ${MANY})`],
].flatMap(([group, userId, count]) => [
  `insert into notifications (id, title, text, data, expires_at)
    select ${idOf(group!)}, 'Order', 'It is ready.', '{}', now() + interval '28 days' from generate_series(1, ${count}) n`,
  `insert into recipients (notification_id, user_id, processed_at, outcome, read_at)
    select ${idOf(group!)}, ${userId}, now(), 'sent', case when n <= ${count} - 100 then now() end
    from generate_series(1, ${count}) n`,
]);

/** What is sent for each call, and for whom. */
async function recordInbox(): Promise<{ userId: string; statements: Record<string, SentStatement> }> {
  await using system = await startTestSystem({
    definitions: services.filter(({ name }) => name !== "notification-sender"),
  });
  const { userId, accessToken } = await system.newUser();
  const client = system.asUser(NotificationService, accessToken);
  using recorded = recordStatements();
  await client.listMyNotifications({});
  await client.countUnread({});
  return {
    userId,
    statements: {
      "a page of an inbox": recorded.find(/from "recipients".* inner join "notifications"/),
      "the count of unread ones": recorded.find(/"read_at" is null/),
    },
  };
}
