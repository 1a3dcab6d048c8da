CREATE TABLE "known_accounts" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"since" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
