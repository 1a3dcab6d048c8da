DROP TABLE spent_token;
--> statement-breakpoint
DROP TABLE feed_subject;
--> statement-breakpoint
DROP TABLE feed_outbox;
--> statement-breakpoint
DROP FUNCTION concierge_now();
