CREATE TABLE "admins" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"assigned_by" text NOT NULL,
	"assigned_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "assignments" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"organization_id" uuid,
	"membership_id" uuid,
	"branch_id" uuid,
	"role_id" uuid,
	"permission" text,
	"assigned_by" text NOT NULL,
	"assigned_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "assignments_once" UNIQUE NULLS NOT DISTINCT("organization_id","user_id","membership_id","role_id","permission","branch_id"),
	CONSTRAINT "assignments_of_one" CHECK (num_nonnulls(role_id, permission) = 1),
	CONSTRAINT "assignments_branch" CHECK (branch_id is null or organization_id is not null),
	CONSTRAINT "assignments_membership" CHECK ((membership_id is null) = (organization_id is null))
);
--> statement-breakpoint
ALTER TABLE "assignments" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "permissions" (
	"name" text PRIMARY KEY NOT NULL,
	"description" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
-- Names that have become those of built-in roles. Who decides by them must not be misled.
UPDATE "roles" SET "name" = 'made-' || "name" WHERE "name" IN ('member', 'owner');--> statement-breakpoint
UPDATE "role_assignments" SET "role" = 'made-' || "role" WHERE "role" IN ('member', 'owner');--> statement-breakpoint
ALTER TABLE "roles" DROP CONSTRAINT "roles_pkey";--> statement-breakpoint
ALTER TABLE "roles" ADD COLUMN "id" uuid DEFAULT gen_random_uuid() PRIMARY KEY NOT NULL;--> statement-breakpoint
ALTER TABLE "roles" ALTER COLUMN "id" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "roles" ADD COLUMN "organization_id" uuid;--> statement-breakpoint
ALTER TABLE "roles" ADD COLUMN "permissions" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "roles" ALTER COLUMN "permissions" DROP DEFAULT;--> statement-breakpoint
INSERT INTO "admins" SELECT "user_id", "assigned_by", "assigned_at" FROM "role_assignments" WHERE "role" = 'admin';--> statement-breakpoint
INSERT INTO "assignments" ("id", "user_id", "role_id", "assigned_by", "assigned_at")
	SELECT gen_random_uuid(), a."user_id", r."id", a."assigned_by", a."assigned_at"
	FROM "role_assignments" a JOIN "roles" r ON r."name" = a."role";--> statement-breakpoint
DROP TABLE "role_assignments";--> statement-breakpoint
ALTER TABLE "roles" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "assignments" ADD CONSTRAINT "assignments_role_id_roles_id_fk" FOREIGN KEY ("role_id") REFERENCES "public"."roles"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "assignments_in_order" ON "assignments" USING btree ("organization_id","id");--> statement-breakpoint
CREATE INDEX "assignments_of_user" ON "assignments" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "assignments_of_role" ON "assignments" USING btree ("role_id");--> statement-breakpoint
ALTER TABLE "roles" ADD CONSTRAINT "roles_name" UNIQUE NULLS NOT DISTINCT("organization_id","name");--> statement-breakpoint
CREATE POLICY "tenant" ON "roles" AS PERMISSIVE FOR ALL TO public USING ("roles"."organization_id" is not distinct from (select nullif(current_setting('concierge.organization', true), ''))::uuid) WITH CHECK (case when "roles"."organization_id" is null then (select nullif(current_setting('concierge.organization', true), ''))::uuid is null and (select nullif(current_setting('concierge.platform', true), '')) = 'on' else "roles"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid end);--> statement-breakpoint
CREATE POLICY "platform" ON "roles" AS PERMISSIVE FOR SELECT TO public USING ("roles"."organization_id" is null);--> statement-breakpoint
CREATE POLICY "tenant" ON "assignments" AS PERMISSIVE FOR ALL TO public USING ("assignments"."organization_id" is not distinct from (select nullif(current_setting('concierge.organization', true), ''))::uuid) WITH CHECK (case when "assignments"."organization_id" is null then (select nullif(current_setting('concierge.organization', true), ''))::uuid is null and (select nullif(current_setting('concierge.platform', true), '')) = 'on' else "assignments"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid end);