DROP INDEX "sessions_newest";
--> statement-breakpoint
DROP TABLE "mails";
--> statement-breakpoint
ALTER TABLE "accounts" DROP COLUMN "email_verified_at";
