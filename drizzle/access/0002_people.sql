CREATE TABLE "first_admin" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"user_id" uuid NOT NULL,
	"made_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "first_admin_only" CHECK ("first_admin"."only")
);
--> statement-breakpoint
-- Whoever is there already registered when there was one kind.
ALTER TABLE "known_accounts" ADD COLUMN "kind" text DEFAULT 'user' NOT NULL;--> statement-breakpoint
ALTER TABLE "known_accounts" ALTER COLUMN "kind" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "known_accounts" ADD COLUMN "deleted_at" timestamp with time zone;