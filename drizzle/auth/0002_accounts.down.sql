DROP FUNCTION audit_trim(integer, integer);
--> statement-breakpoint
DROP FUNCTION audit_chain_extend(integer);
--> statement-breakpoint
DROP FUNCTION audit_link(bytea, audit_log);
--> statement-breakpoint
DROP TABLE "audit_chain";
--> statement-breakpoint
DROP TABLE "audit_log";
--> statement-breakpoint
DROP TABLE "mails";
--> statement-breakpoint
DROP TABLE "device_tokens";
--> statement-breakpoint
DROP TABLE "attempt_buckets";
--> statement-breakpoint
DROP TABLE "removed_keys";
--> statement-breakpoint
DROP INDEX "sessions_live";
--> statement-breakpoint
DROP INDEX "sessions_newest";
--> statement-breakpoint
DROP INDEX "sessions_expired";
--> statement-breakpoint
CREATE INDEX "sessions_account" ON "sessions" USING btree ("account_id");
--> statement-breakpoint
ALTER TABLE "sessions" DROP COLUMN "end_reason";
--> statement-breakpoint
ALTER TABLE "sessions" DROP COLUMN "last_used_at";
--> statement-breakpoint
ALTER TABLE "sessions" DROP COLUMN "address";
--> statement-breakpoint
ALTER TABLE "sessions" DROP COLUMN "user_agent";
--> statement-breakpoint
ALTER TABLE "refresh_tokens" DROP COLUMN "key_id";
--> statement-breakpoint
ALTER TABLE "refresh_tokens" DROP COLUMN "idempotency_key_hash";
--> statement-breakpoint
ALTER TABLE "refresh_tokens" DROP COLUMN "used_at";
--> statement-breakpoint
ALTER TABLE "accounts" DROP COLUMN "email_verified_at";
--> statement-breakpoint
ALTER TABLE "accounts" DROP COLUMN "stage_name";
--> statement-breakpoint
ALTER TABLE "accounts" DROP COLUMN "status";
--> statement-breakpoint
ALTER TABLE "accounts" DROP COLUMN "kind";
