DROP TABLE "refresh_token";
--> statement-breakpoint
DROP TABLE "session";
--> statement-breakpoint
DROP TABLE "credential";
--> statement-breakpoint
DROP TABLE "account";
