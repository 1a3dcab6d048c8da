/** Columns that every schema has: times are absolute, and "now" is the hour that a test may offset. */
import { sql } from "drizzle-orm";
import { customType, timestamp } from "drizzle-orm/pg-core";

export const time = (name: string) => timestamp(name, { withTimezone: true });

export const now = sql`concierge_now()`;

export const bytea = customType<{ data: Uint8Array }>({ dataType: () => "bytea" });
