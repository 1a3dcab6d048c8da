ALTER TABLE "sessions" ADD COLUMN "tokens_expire_at" timestamp with time zone;--> statement-breakpoint
UPDATE "sessions" SET "tokens_expire_at" = "expires_at";--> statement-breakpoint
ALTER TABLE "sessions" ALTER COLUMN "tokens_expire_at" SET NOT NULL;--> statement-breakpoint
CREATE INDEX "sessions_ended" ON "sessions" USING btree ("tokens_expire_at") WHERE "sessions"."ended_at" is not null;
