CREATE OR REPLACE FUNCTION feed_stamp(most integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE
  AS $$
    DECLARE
      state feed_state%ROWTYPE;
      head bigint;
      oldest xid8;
      stamped integer;
      newest bigint;
    BEGIN
      -- A position that somebody has seen must not be given again after a crash.
      IF current_setting('synchronous_commit') = 'off' THEN PERFORM set_config('synchronous_commit', 'on', true); END IF;
      -- One caller at a time; every statement after this one sees what the caller before has committed.
      PERFORM pg_advisory_xact_lock(1664510468);
      SELECT * INTO state FROM feed_state;
      -- Taken before the statement that stamps, which therefore sees all that older transactions have committed.
      oldest := pg_snapshot_xmin(pg_current_snapshot());
      -- In one statement: everything may be trimmed just now.
      SELECT greatest((SELECT max(position) FROM feed_outbox), trimmed) INTO head FROM feed_state;
      WITH chosen AS (
        SELECT id, row_number() OVER (ORDER BY id) AS place
        FROM (SELECT id FROM feed_outbox WHERE position IS NULL AND id > state.floor ORDER BY id LIMIT most) first
      ), given AS (
        UPDATE feed_outbox o SET position = head + chosen.place
        FROM chosen WHERE o.id = chosen.id AND o.position IS NULL AND o.id > state.floor RETURNING o.id
      )
      SELECT count(*), max(id) INTO stamped, newest FROM given;
      IF stamped > 0 THEN PERFORM pg_notify('concierge_feed', ''); END IF;
      PERFORM feed_raise_floor(state, oldest, CASE WHEN stamped = most THEN newest END);
      RETURN stamped;
    END
  $$;
