DROP TABLE "devices";
--> statement-breakpoint
DROP TABLE "recipients";
--> statement-breakpoint
DROP TABLE "notifications";
