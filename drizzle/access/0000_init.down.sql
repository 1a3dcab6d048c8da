DROP TABLE "role_assignments";
--> statement-breakpoint
DROP TABLE "roles";
