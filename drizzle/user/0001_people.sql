CREATE TABLE "artists" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"stage_name" text NOT NULL,
	"bio" text DEFAULT '' NOT NULL,
	"genres" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"links" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"updated_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
-- Whoever is there already registered when there was one kind.
ALTER TABLE "profiles" ADD COLUMN "kind" text DEFAULT 'user' NOT NULL;--> statement-breakpoint
ALTER TABLE "profiles" ALTER COLUMN "kind" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "profiles" ADD COLUMN "deleted_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "artists" ADD CONSTRAINT "artists_user_id_profiles_user_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."profiles"("user_id") ON DELETE cascade ON UPDATE no action;