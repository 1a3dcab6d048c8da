-- The feed over the outbox: an event gets its position after its commit, by feed_stamp(), which any process may call at any
-- time. There is no leader and no lock that outlives a statement. src/feed/ uses these, and describes the tables to Drizzle.

-- One row. The newest position is not kept here: this row would be rewritten with every stamp, and while somebody holds an old
-- snapshot (a dump), every reader would have to pass all its dead versions.
CREATE TABLE feed_state (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  -- Events up to here are not kept any more.
  trimmed bigint NOT NULL DEFAULT 0,
  -- Every committed event of an older transaction has its position: the search for new ones begins here.
  floor xid8 NOT NULL DEFAULT '0',
  floor_at timestamptz NOT NULL DEFAULT '-infinity',
  -- The feed's life in which the floor was taken: transaction ids of another cluster say nothing here.
  floor_epoch text NOT NULL DEFAULT '',
  -- To be raised by hand after rows were loaded from a backup into these very tables; every other restore shows by itself.
  restores integer NOT NULL DEFAULT 0
);
--> statement-breakpoint
INSERT INTO feed_state DEFAULT VALUES;
--> statement-breakpoint
-- Tells one life of the feed from another: a restored copy has other tables, another database or cluster; a promoted standby has
-- another timeline. Cursors of one life mean nothing in another.
CREATE FUNCTION feed_epoch() RETURNS text
  LANGUAGE plpgsql STABLE
  AS $$
    BEGIN
      IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby has no feed of its own' USING ERRCODE = 'read_only_sql_transaction';
      END IF;
      RETURN left(md5(concat_ws('/',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'feed_outbox'::regclass::oid,
        (SELECT restores FROM feed_state))), 16);
    END
  $$;
--> statement-breakpoint
-- How the feed is, in one snapshot: the newest position; whether committed events wait for a position; and whether one has waited
-- for longer than 250 ms, so that whoever reads up to the head has not got everything.
CREATE FUNCTION feed_look(OUT epoch text, OUT head bigint, OUT trimmed bigint, OUT pending boolean, OUT late boolean)
  LANGUAGE plpgsql STABLE
  AS $$
    DECLARE
      state feed_state%ROWTYPE;
    BEGIN
      SELECT * INTO state FROM feed_state;
      epoch := feed_epoch();
      trimmed := state.trimmed;
      IF state.floor_epoch <> epoch THEN state.floor := '0'; END IF;
      SELECT greatest(max(o.position), trimmed) INTO head FROM feed_outbox o;
      pending := EXISTS (SELECT FROM feed_outbox o WHERE o.position IS NULL AND o.xid >= state.floor);
      late := pending AND EXISTS (
        SELECT FROM feed_outbox o
        WHERE o.position IS NULL AND o.xid >= state.floor AND o.created_at < concierge_now() - interval '250 ms');
    END
  $$;
--> statement-breakpoint
-- Gives positions to committed events, in the order of their ids, at most so many; returns how many. To be called in a transaction
-- of its own, READ COMMITTED.
CREATE FUNCTION feed_stamp(most integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE
  AS $$
    DECLARE
      state feed_state%ROWTYPE;
      life text := feed_epoch();
      head bigint;
      next_floor xid8;
      stamped integer;
    BEGIN
      -- One caller at a time; every statement after this one sees what the caller before has committed.
      PERFORM pg_advisory_xact_lock(1664510468);
      SELECT * INTO state FROM feed_state;
      IF state.floor_epoch <> life THEN state.floor := '0'; END IF;
      -- Taken before the statement that stamps: what is committed later belongs to a transaction at or above it.
      next_floor := pg_snapshot_xmin(pg_current_snapshot());
      SELECT greatest(max(position), state.trimmed) INTO head FROM feed_outbox;
      UPDATE feed_outbox o SET position = head + chosen.place
      FROM (
        SELECT id, row_number() OVER (ORDER BY id) AS place
        FROM (SELECT id FROM feed_outbox WHERE position IS NULL AND xid >= state.floor ORDER BY id LIMIT most) first
      ) chosen
      WHERE o.id = chosen.id AND o.position IS NULL;
      GET DIAGNOSTICS stamped = ROW_COUNT;
      IF stamped > 0 THEN PERFORM pg_notify('concierge_feed', ''); END IF;
      -- Not with every stamp, so that this row has few versions; an old floor only makes the search a little longer.
      IF stamped < most AND next_floor > state.floor AND state.floor_at < clock_timestamp() - interval '250 ms' THEN
        UPDATE feed_state SET floor = next_floor, floor_at = clock_timestamp(), floor_epoch = life;
      END IF;
      RETURN stamped;
    END
  $$;
--> statement-breakpoint
-- Deletes events that were written before `until`, oldest positions first, at most so many; returns how many. Waits for no reader.
CREATE FUNCTION feed_trim(until timestamptz, most integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE
  AS $$
    DECLARE
      newest bigint;
      deleted integer;
    BEGIN
      SELECT max(position) INTO newest FROM (
        SELECT o.position, o.created_at FROM feed_outbox o, feed_state s WHERE o.position > s.trimmed ORDER BY o.position LIMIT most
      ) oldest WHERE created_at < until;
      IF newest IS NULL THEN RETURN 0; END IF;
      DELETE FROM feed_outbox WHERE position <= newest;
      GET DIAGNOSTICS deleted = ROW_COUNT;
      UPDATE feed_state SET trimmed = greatest(trimmed, newest);
      RETURN deleted;
    END
  $$;
--> statement-breakpoint
-- Every row is rewritten once and later deleted: vacuum must not wait until a fifth of the table is dead.
ALTER TABLE feed_outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
--> statement-breakpoint
-- How far this service has come with the feeds of others. Moved in the transaction of the effect, by compare-and-set.
CREATE TABLE feed_cursor (
  source text PRIMARY KEY,
  epoch text NOT NULL,
  position bigint NOT NULL
);
--> statement-breakpoint
-- Events of others whose effect failed again and again, and those about the same subjects that came after them.
CREATE TABLE feed_parked (
  source text NOT NULL,
  -- The order in which they are tried again.
  number bigint GENERATED ALWAYS AS IDENTITY,
  event_id text NOT NULL,
  type text NOT NULL,
  subject text NOT NULL,
  version bigint NOT NULL,
  position bigint NOT NULL,
  created_at timestamptz NOT NULL,
  payload bytea NOT NULL,
  parked_at timestamptz NOT NULL DEFAULT concierge_now(),
  PRIMARY KEY (source, number),
  UNIQUE (source, event_id)
);
--> statement-breakpoint
CREATE INDEX feed_parked_subject ON feed_parked (source, subject, number);
