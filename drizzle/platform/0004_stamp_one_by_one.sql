-- Rows are stamped one by one, each by its id: that is the same plan whatever the statistics say. As one statement over all of them it
-- was planned, after an ANALYZE that had met no waiting row, as if there were at most one: reading all waiting rows again for each of
-- them, for seconds, while the feed stood still.
CREATE OR REPLACE FUNCTION feed_stamp(most integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE
  AS $$
    DECLARE
      state feed_state%ROWTYPE;
      head bigint;
      oldest xid8;
      waiting bigint;
      stamped integer := 0;
    BEGIN
      -- A position that somebody has seen must not be given again after a crash.
      IF current_setting('synchronous_commit') = 'off' THEN PERFORM set_config('synchronous_commit', 'on', true); END IF;
      -- One caller at a time; every statement after this one sees what the caller before has committed.
      PERFORM pg_advisory_xact_lock(1664510468);
      SELECT * INTO state FROM feed_state;
      -- Taken before the statement that finds the rows, which therefore sees all that older transactions have committed.
      oldest := pg_snapshot_xmin(pg_current_snapshot());
      -- In one statement: everything may be trimmed just now.
      SELECT greatest((SELECT max(position) FROM feed_outbox), trimmed) INTO head FROM feed_state;
      FOR waiting IN
        SELECT id FROM feed_outbox WHERE position IS NULL AND id > state.floor ORDER BY id LIMIT most
      LOOP
        stamped := stamped + 1;
        UPDATE feed_outbox SET position = head + stamped WHERE id = waiting;
      END LOOP;
      IF stamped > 0 THEN PERFORM pg_notify('concierge_feed', ''); END IF;
      PERFORM feed_raise_floor(state, oldest, CASE WHEN stamped = most THEN waiting END);
      RETURN stamped;
    END
  $$;
