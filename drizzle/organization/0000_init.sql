CREATE TABLE "branches" (
	"id" uuid PRIMARY KEY NOT NULL,
	"organization_id" uuid NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"closed_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "branches" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "deleted_accounts" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"deleted_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "invitations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"organization_id" uuid NOT NULL,
	"email" text NOT NULL,
	"email_key" text NOT NULL,
	"role" text NOT NULL,
	"invited_by" uuid NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "invitations" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "memberships" (
	"id" uuid DEFAULT gen_random_uuid() NOT NULL,
	"organization_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"role" text NOT NULL,
	"since" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "memberships_organization_id_user_id_pk" PRIMARY KEY("organization_id","user_id")
);
--> statement-breakpoint
ALTER TABLE "memberships" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "organizations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"slug" text NOT NULL,
	"plan" text DEFAULT 'free' NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"modules_enabled" text[] DEFAULT '{}' NOT NULL,
	"settings" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "organizations_slug" UNIQUE("slug")
);
--> statement-breakpoint
ALTER TABLE "organizations" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "person_counters" (
	"user_id" uuid NOT NULL,
	"what" text NOT NULL,
	"day" date NOT NULL,
	"count" integer NOT NULL,
	CONSTRAINT "person_counters_user_id_what_day_pk" PRIMARY KEY("user_id","what","day")
);
--> statement-breakpoint
ALTER TABLE "branches" ADD CONSTRAINT "branches_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invitations" ADD CONSTRAINT "invitations_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "branches_open" ON "branches" USING btree ("organization_id","name") WHERE closed_at is null;--> statement-breakpoint
CREATE INDEX "branches_in_order" ON "branches" USING btree ("organization_id","name","id");--> statement-breakpoint
CREATE UNIQUE INDEX "invitations_open" ON "invitations" USING btree ("organization_id","email_key") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "invitations_of_address" ON "invitations" USING btree ("email_key","id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "invitations_in_order" ON "invitations" USING btree ("organization_id","id");--> statement-breakpoint
CREATE INDEX "invitations_made" ON "invitations" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "memberships_in_order" ON "memberships" USING btree ("organization_id","since","user_id");--> statement-breakpoint
CREATE INDEX "memberships_of_user" ON "memberships" USING btree ("user_id","since","organization_id");--> statement-breakpoint
CREATE INDEX "person_counters_by_day" ON "person_counters" USING btree ("day");--> statement-breakpoint
CREATE POLICY "tenant" ON "branches" AS PERMISSIVE FOR ALL TO public USING ("branches"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);--> statement-breakpoint
CREATE POLICY "tenant" ON "invitations" AS PERMISSIVE FOR ALL TO public USING ("invitations"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);--> statement-breakpoint
CREATE POLICY "addressee" ON "invitations" AS PERMISSIVE FOR SELECT TO public USING ("invitations"."email_key" = (select nullif(current_setting('concierge.email_key', true), '')));--> statement-breakpoint
CREATE POLICY "tenant" ON "memberships" AS PERMISSIVE FOR ALL TO public USING ("memberships"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);--> statement-breakpoint
CREATE POLICY "person" ON "memberships" AS PERMISSIVE FOR SELECT TO public USING ("memberships"."user_id" = (select nullif(current_setting('concierge.person', true), ''))::uuid);--> statement-breakpoint
CREATE POLICY "tenant" ON "organizations" AS PERMISSIVE FOR ALL TO public USING ("organizations"."id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);--> statement-breakpoint
CREATE POLICY "person" ON "organizations" AS PERMISSIVE FOR SELECT TO public USING ("organizations"."id" in (select organization_id from memberships where user_id = (select nullif(current_setting('concierge.person', true), ''))::uuid));--> statement-breakpoint
CREATE POLICY "addressee" ON "organizations" AS PERMISSIVE FOR SELECT TO public USING ("organizations"."id" in (select organization_id from invitations where email_key = (select nullif(current_setting('concierge.email_key', true), ''))));