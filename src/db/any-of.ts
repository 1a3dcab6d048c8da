/** Lists of ids in queries. */
import { type AnyColumn, type SQL, sql } from "drizzle-orm";

/**
 * Whether a column of UUIDs has one of these. They are one parameter, however many there are: with a parameter for each, every number
 * of ids would be another statement to prepare.
 */
export function isAnyOf(column: AnyColumn | SQL, ids: Iterable<string>): SQL {
  const list = JSON.stringify([...ids]);
  return sql`${column} in (select value::uuid from jsonb_array_elements_text(${list}::text::jsonb))`;
}
