DROP TABLE "first_admin";
--> statement-breakpoint
ALTER TABLE "known_accounts" DROP COLUMN "kind";
