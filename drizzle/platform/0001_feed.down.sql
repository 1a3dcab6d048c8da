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
DROP FUNCTION feed_raise_floor(feed_state, xid8, bigint);
--> statement-breakpoint
DROP FUNCTION feed_look();
--> statement-breakpoint
DROP FUNCTION feed_epoch();
--> statement-breakpoint
DROP FUNCTION concierge_on_primary();
--> statement-breakpoint
DROP TABLE feed_state;
--> statement-breakpoint
DROP INDEX feed_outbox_pending;
--> statement-breakpoint
ALTER TABLE feed_outbox ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
--> statement-breakpoint
CREATE INDEX feed_outbox_pending ON feed_outbox (xid, id) WHERE position IS NULL;
