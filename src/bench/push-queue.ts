/** What waits to be pushed, put into notification's tables as CreateNotification leaves it, but without its calls and its events. */
import type { Sql } from "postgres";

/** Queues this many notifications of an organization, each for one of these people. */
export async function queueNotifications(
  sql: Sql,
  { organizationId, people, count }: { organizationId: string; people: string[]; count: number },
): Promise<void> {
  await sql`
    with chosen as materialized (
      select gen_random_uuid() as id, (${people}::uuid[])[1 + n % ${people.length}::int] as user_id, clock_timestamp() as at
      from generate_series(1, ${count}::int) n
    ), stored as (
      insert into notifications (id, organization_id, title, text, data, created_at, expires_at)
      select id, ${organizationId}, 'Order', 'It is ready.', '{}', at, at + interval '1 day' from chosen
    ), addressed as (
      insert into recipients (notification_id, user_id) select id, user_id from chosen
    )
    insert into deliveries (notification_id, user_id, queue, rank, created_at, available_at)
    select id, user_id, ${organizationId}, 1, at, at from chosen`;
}
