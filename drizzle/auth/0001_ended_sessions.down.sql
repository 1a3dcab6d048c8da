DROP INDEX "sessions_ended";
--> statement-breakpoint
ALTER TABLE "sessions" DROP COLUMN "tokens_expire_at";
