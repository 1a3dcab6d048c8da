ALTER TABLE "accounts" DROP COLUMN "last_organization_id";
