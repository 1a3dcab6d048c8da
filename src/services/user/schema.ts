/** Tables of user. */
import { jsonb, pgTable, text, uuid } from "drizzle-orm/pg-core";
import { now, time } from "../../db/columns.ts";

/** A person; made from the account. Of a deleted one the row stays, and says nothing of the person. */
export const profiles = pgTable("profiles", {
  /** The account's id. */
  userId: uuid("user_id").primaryKey(),
  /** What sort of account it is; it never changes. */
  kind: text("kind", { enum: ["user", "artist"] }).notNull(),
  email: text("email").notNull(),
  firstName: text("first_name").notNull(),
  lastName: text("last_name").notNull(),
  /** BCP 47 tag; may be empty. */
  locale: text("locale").notNull(),
  /** When the account was made, by auth's clock. */
  createdAt: time("created_at").notNull(),
  updatedAt: time("updated_at").notNull().default(now),
  /** Set for good: no event that comes late and no read makes the profile again. */
  deletedAt: time("deleted_at"),
});

/** What everybody may know of an artist; made with the profile. */
export const artists = pgTable("artists", {
  userId: uuid("user_id")
    .primaryKey()
    .references(() => profiles.userId, { onDelete: "cascade" }),
  stageName: text("stage_name").notNull(),
  bio: text("bio").notNull().default(""),
  genres: jsonb("genres").$type<string[]>().notNull().default([]),
  /** https URLs. They are shown, and never fetched. */
  links: jsonb("links").$type<string[]>().notNull().default([]),
  updatedAt: time("updated_at").notNull().default(now),
});
