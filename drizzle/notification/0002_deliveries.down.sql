ALTER TABLE "recipients" RESET (fillfactor);
ALTER TABLE "recipients" ADD COLUMN "created_at" timestamp with time zone;
ALTER TABLE "recipients" ADD COLUMN "lease_expires_at" timestamp with time zone;
UPDATE "recipients" SET "created_at" = "notifications"."created_at"
FROM "notifications" WHERE "notifications"."id" = "recipients"."notification_id";
ALTER TABLE "recipients" ALTER COLUMN "created_at" SET NOT NULL;
UPDATE "recipients" SET "lease_owner" = "deliveries"."lease_owner", "lease_token" = "deliveries"."lease_token",
  "lease_expires_at" = "deliveries"."available_at"
FROM "deliveries"
WHERE "deliveries"."notification_id" = "recipients"."notification_id" AND "deliveries"."user_id" = "recipients"."user_id";
UPDATE "recipients" SET "outcome" = 'failed' WHERE "outcome" IN ('muted', 'expired');
-- What was taken back must not come back into inboxes, nor be pushed.
DELETE FROM "recipients" USING "notifications"
WHERE "notifications"."id" = "recipients"."notification_id"
  AND ("outcome" = 'cancelled' OR "processed_at" IS NULL AND "notifications"."cancelled_at" IS NOT NULL);
CREATE INDEX "recipients_unprocessed" ON "recipients" USING btree ("created_at","notification_id","user_id")
WHERE processed_at is null;
DROP INDEX "recipients_unread";
ALTER TABLE "recipients" DROP COLUMN "code", DROP COLUMN "failed_tries", DROP COLUMN "read_at";
ALTER TABLE "notifications" DROP CONSTRAINT "notifications_idempotency_key";
ALTER TABLE "notifications" DROP COLUMN "organization_id", DROP COLUMN "topic", DROP COLUMN "priority",
  DROP COLUMN "expires_at", DROP COLUMN "cancelled_at", DROP COLUMN "author", DROP COLUMN "idempotency_key", DROP COLUMN "request_digest",
  DROP COLUMN "traceparent";
DROP TABLE "allowances";
DROP TABLE "dead_letters";
DROP TABLE "deliveries";
DROP TABLE "muted_topics";
