DROP TABLE "mail_requests";
--> statement-breakpoint
DELETE FROM "mails" WHERE "account_id" IS NULL;
--> statement-breakpoint
DROP INDEX "mails_invited";
--> statement-breakpoint
ALTER TABLE "mails" DROP COLUMN "organization_name";
--> statement-breakpoint
ALTER TABLE "mails" DROP COLUMN "recipient_key";
--> statement-breakpoint
ALTER TABLE "mails" ALTER COLUMN "account_id" SET NOT NULL;
--> statement-breakpoint
ALTER TABLE "accounts" DROP COLUMN "last_organization_id";
