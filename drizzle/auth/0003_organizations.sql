CREATE TABLE "mail_requests" (
	"id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"email_key" text NOT NULL,
	"address" text NOT NULL,
	"user_agent" text NOT NULL,
	"request_id" text NOT NULL,
	"asked_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"next_attempt_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "mails" ALTER COLUMN "account_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "last_organization_id" uuid;--> statement-breakpoint
ALTER TABLE "mails" ADD COLUMN "recipient_key" text;--> statement-breakpoint
ALTER TABLE "mails" ADD COLUMN "organization_name" text DEFAULT '' NOT NULL;--> statement-breakpoint
CREATE INDEX "mail_requests_waiting" ON "mail_requests" USING btree ("next_attempt_at");--> statement-breakpoint
CREATE INDEX "mails_invited" ON "mails" USING btree ("recipient_key","created_at") WHERE "mails"."recipient_key" is not null;