DROP TABLE "refresh_tokens";
--> statement-breakpoint
DROP TABLE "sessions";
--> statement-breakpoint
DROP TABLE "credentials";
--> statement-breakpoint
DROP TABLE "accounts";
