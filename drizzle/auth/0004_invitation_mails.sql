ALTER TABLE "mails" ALTER COLUMN "account_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "mails" ADD COLUMN "recipient_key" text;--> statement-breakpoint
ALTER TABLE "mails" ADD COLUMN "organization_name" text DEFAULT '' NOT NULL;--> statement-breakpoint
CREATE INDEX "mails_invited" ON "mails" USING btree ("recipient_key","created_at") WHERE "mails"."recipient_key" is not null;