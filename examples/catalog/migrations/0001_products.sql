CREATE TABLE products (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  organization_id uuid NOT NULL,
  name text NOT NULL,
  price bigint NOT NULL,
  branch_ids uuid[] NOT NULL
);

CREATE INDEX products_of_organization ON products (organization_id, id);
