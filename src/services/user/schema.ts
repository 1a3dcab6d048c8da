/** Tables of user. */
import { sql } from "drizzle-orm";
import { pgTable, text, uuid } from "drizzle-orm/pg-core";
import { time } from "../../db/columns.ts";

/** A person as others see them; made from the account. Of a deleted one the row stays, and says nothing of the person. */
export const profiles = pgTable("profiles", {
  /** The account's id. */
  userId: uuid("user_id").primaryKey(),
  email: text("email").notNull(),
  firstName: text("first_name").notNull(),
  lastName: text("last_name").notNull(),
  /** BCP 47 tag; may be empty. */
  locale: text("locale").notNull(),
  /** When the account was made, by auth's clock. */
  createdAt: time("created_at").notNull(),
  updatedAt: time("updated_at").notNull().default(sql`concierge_now()`),
  /** Set for good: no event that comes late and no read makes the profile again. */
  deletedAt: time("deleted_at"),
});
