DELETE FROM "known_accounts" WHERE "deleted_at" IS NOT NULL;
--> statement-breakpoint
ALTER TABLE "known_accounts" DROP COLUMN "deleted_at";
--> statement-breakpoint
ALTER TABLE "known_accounts" DROP COLUMN "kind";
--> statement-breakpoint
DROP TABLE "first_admin";
