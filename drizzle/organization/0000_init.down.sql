DROP POLICY "person" ON "organizations";
--> statement-breakpoint
DROP POLICY "addressee" ON "organizations";
--> statement-breakpoint
DROP TABLE "branches", "invitations", "memberships", "deleted_accounts", "person_counters", "organizations";
