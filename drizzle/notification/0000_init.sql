CREATE TABLE "devices" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"token" text NOT NULL,
	"token_hash" text NOT NULL,
	"platform" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"last_seen_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "devices_token_hash" UNIQUE("token_hash")
);
--> statement-breakpoint
CREATE TABLE "notifications" (
	"id" uuid PRIMARY KEY NOT NULL,
	"title" text NOT NULL,
	"text" text NOT NULL,
	"data" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "recipients" (
	"notification_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"processed_at" timestamp with time zone,
	"outcome" text,
	"received_at" timestamp with time zone,
	"lease_owner" text,
	"lease_token" uuid,
	"lease_expires_at" timestamp with time zone,
	CONSTRAINT "recipients_notification_id_user_id_pk" PRIMARY KEY("notification_id","user_id")
);
--> statement-breakpoint
ALTER TABLE "recipients" ADD CONSTRAINT "recipients_notification_id_notifications_id_fk" FOREIGN KEY ("notification_id") REFERENCES "public"."notifications"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "devices_user" ON "devices" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "recipients_unprocessed" ON "recipients" USING btree ("created_at","notification_id","user_id") WHERE processed_at is null;--> statement-breakpoint
CREATE INDEX "recipients_inbox" ON "recipients" USING btree ("user_id","notification_id");