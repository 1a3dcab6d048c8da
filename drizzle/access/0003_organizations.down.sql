-- What was given in organizations has no place in the tables before, nor have single permissions.
CREATE TABLE "role_assignments" (
	"user_id" uuid NOT NULL,
	"role" text NOT NULL,
	"assigned_by" text NOT NULL,
	"assigned_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "role_assignments_user_id_role_pk" PRIMARY KEY("user_id","role")
);
--> statement-breakpoint
INSERT INTO "role_assignments" SELECT "user_id", 'admin', "assigned_by", "assigned_at" FROM "admins";
--> statement-breakpoint
INSERT INTO "role_assignments"
	SELECT a."user_id", r."name", a."assigned_by", a."assigned_at"
	FROM "assignments" a JOIN "roles" r ON r."id" = a."role_id" WHERE a."organization_id" IS NULL;
--> statement-breakpoint
DROP TABLE "assignments";
--> statement-breakpoint
DROP TABLE "admins";
--> statement-breakpoint
DROP TABLE "permissions";
--> statement-breakpoint
DELETE FROM "roles" WHERE "organization_id" IS NOT NULL;
--> statement-breakpoint
DROP POLICY "tenant" ON "roles";
--> statement-breakpoint
DROP POLICY "platform" ON "roles";
--> statement-breakpoint
DROP POLICY IF EXISTS "jobs" ON "roles";
--> statement-breakpoint
ALTER TABLE "roles" DISABLE ROW LEVEL SECURITY;
--> statement-breakpoint
ALTER TABLE "roles" DROP COLUMN "organization_id", DROP COLUMN "permissions", DROP COLUMN "id";
--> statement-breakpoint
ALTER TABLE "roles" ADD PRIMARY KEY ("name");
