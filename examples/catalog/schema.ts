/** The catalog's own tables. Organizations and branches are Concierge's: here they are ids. */
import { bigint, index, pgTable, text, uuid } from "drizzle-orm/pg-core";

export const products = pgTable(
  "products",
  {
    id: uuid().primaryKey().defaultRandom(),
    organizationId: uuid("organization_id").notNull(),
    name: text().notNull(),
    /** In cents. */
    price: bigint({ mode: "number" }).notNull(),
    branchIds: uuid("branch_ids").array().notNull(),
  },
  ({ organizationId, id }) => [index("products_of_organization").on(organizationId, id)],
);
