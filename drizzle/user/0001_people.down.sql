DROP TABLE "artists";
--> statement-breakpoint
DELETE FROM "profiles" WHERE "deleted_at" IS NOT NULL;
--> statement-breakpoint
ALTER TABLE "profiles" DROP COLUMN "deleted_at";
--> statement-breakpoint
ALTER TABLE "profiles" DROP COLUMN "kind";
