DROP TABLE feed_parked;
--> statement-breakpoint
DROP TABLE feed_cursor;
--> statement-breakpoint
ALTER TABLE feed_outbox RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
--> statement-breakpoint
DROP FUNCTION feed_trim(timestamptz, integer);
--> statement-breakpoint
DROP FUNCTION feed_stamp(integer);
--> statement-breakpoint
DROP FUNCTION feed_look();
--> statement-breakpoint
DROP FUNCTION feed_epoch();
--> statement-breakpoint
DROP TABLE feed_state;
