CREATE TABLE "allowances" (
	"name" text PRIMARY KEY NOT NULL,
	"full_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "dead_letters" (
	"notification_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"queue" uuid NOT NULL,
	"rank" smallint NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"failed_tries" smallint DEFAULT 0 NOT NULL,
	"code" text NOT NULL,
	"died_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "dead_letters_notification_id_user_id_pk" PRIMARY KEY("notification_id","user_id")
);
--> statement-breakpoint
CREATE TABLE "deliveries" (
	"notification_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"queue" uuid NOT NULL,
	"rank" smallint NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"failed_tries" smallint DEFAULT 0 NOT NULL,
	"available_at" timestamp with time zone NOT NULL,
	"lease_owner" text,
	"lease_token" uuid,
	"claims" smallint DEFAULT 0 NOT NULL,
	CONSTRAINT "deliveries_notification_id_user_id_pk" PRIMARY KEY("notification_id","user_id")
);
--> statement-breakpoint
CREATE TABLE "muted_topics" (
	"user_id" uuid NOT NULL,
	"topic" text NOT NULL,
	"muted_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "muted_topics_user_id_topic_pk" PRIMARY KEY("user_id","topic")
);
--> statement-breakpoint
DROP INDEX "recipients_unprocessed";--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "organization_id" uuid;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "topic" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "priority" text DEFAULT 'normal' NOT NULL;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "expires_at" timestamp with time zone;--> statement-breakpoint
UPDATE "notifications" SET "expires_at" = "created_at" + interval '28 days';--> statement-breakpoint
ALTER TABLE "notifications" ALTER COLUMN "expires_at" SET NOT NULL;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "cancelled_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "author" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "idempotency_key" text;--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "request_digest" "bytea";--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "traceparent" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "recipients" ADD COLUMN "code" text;--> statement-breakpoint
ALTER TABLE "recipients" ADD COLUMN "failed_tries" smallint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "recipients" ADD COLUMN "read_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "dead_letters_died" ON "dead_letters" USING btree ("died_at","notification_id","user_id");--> statement-breakpoint
CREATE INDEX "deliveries_queue" ON "deliveries" USING btree ("queue","rank","available_at");--> statement-breakpoint
CREATE INDEX "deliveries_oldest" ON "deliveries" USING btree ("created_at","notification_id","user_id");--> statement-breakpoint
CREATE INDEX "deliveries_lease" ON "deliveries" USING btree ("lease_token") WHERE lease_token is not null;--> statement-breakpoint
CREATE INDEX "deliveries_suspect" ON "deliveries" USING btree ("available_at") WHERE claims >= 2;--> statement-breakpoint
CREATE INDEX "recipients_unread" ON "recipients" USING btree ("user_id","notification_id") WHERE read_at is null;--> statement-breakpoint
-- What waits becomes work to do, under the lease that it has. Its authors are not known: all of it shares one queue.
INSERT INTO "deliveries" ("notification_id", "user_id", "queue", "rank", "created_at", "available_at", "lease_owner", "lease_token")
SELECT "notification_id", "user_id", '00000000-0000-0000-0000-000000000000', 1, "created_at",
  coalesce("lease_expires_at", "created_at"), "lease_owner", "lease_token"
FROM "recipients" WHERE "processed_at" IS NULL;--> statement-breakpoint
ALTER TABLE "recipients" DROP COLUMN "created_at";--> statement-breakpoint
ALTER TABLE "recipients" DROP COLUMN "lease_expires_at";--> statement-breakpoint
-- Room beside each row, so that marking it stays on its page and touches no index.
ALTER TABLE "recipients" SET (fillfactor = 80);--> statement-breakpoint
ALTER TABLE "notifications" ADD CONSTRAINT "notifications_idempotency_key" UNIQUE("author","idempotency_key");