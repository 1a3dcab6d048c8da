DROP TABLE "artists";
--> statement-breakpoint
ALTER TABLE "profiles" DROP COLUMN "kind";
