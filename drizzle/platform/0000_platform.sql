-- What every service's database has, before the service's own tables: the hour, the event outbox, and the used ids of
-- service tokens. src/feed/schema.ts describes the feed's tables to Drizzle.

-- All SQL takes the time from here; a test replaces it in its own database to set the hour.
CREATE FUNCTION concierge_now() RETURNS timestamptz
  LANGUAGE sql VOLATILE PARALLEL SAFE
  AS $$ SELECT clock_timestamp() $$;
--> statement-breakpoint
-- An event is written with its change. It gets its position in the feed after the commit, so position starts null.
CREATE TABLE feed_outbox (
  id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  position bigint,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  type text NOT NULL,
  subject text NOT NULL,
  version bigint NOT NULL,
  payload bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT concierge_now()
);
--> statement-breakpoint
CREATE UNIQUE INDEX feed_outbox_position ON feed_outbox (position) WHERE position IS NOT NULL;
--> statement-breakpoint
CREATE INDEX feed_outbox_pending ON feed_outbox (xid, id) WHERE position IS NULL;
--> statement-breakpoint
-- The newest version of each subject; its row is the lock that puts one subject's events in order.
CREATE TABLE feed_subject (
  subject text PRIMARY KEY,
  version bigint NOT NULL
);
--> statement-breakpoint
-- A service token is accepted once: its id stays here until the token would have expired anyway.
CREATE TABLE spent_token (
  jti text PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
--> statement-breakpoint
CREATE INDEX spent_token_expires_at ON spent_token (expires_at);
