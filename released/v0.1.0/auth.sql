-- The database of auth in release 0.1.0, with a life made up for it. Never edited.

CREATE TABLE IF NOT EXISTS concierge_migration (
  series text NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  is_expansion boolean NOT NULL DEFAULT false,
  PRIMARY KEY (series, name)
)
;

-- platform/0000_platform.sql

-- What every service's database has, before the service's own tables: the hour, the event outbox, and the used ids of
-- service tokens. src/feed/schema.ts describes the feed's tables to Drizzle.

-- All SQL takes the time from here; a test replaces it in its own database to set the hour.
CREATE FUNCTION concierge_now() RETURNS timestamptz
  LANGUAGE sql VOLATILE PARALLEL SAFE
  AS $$ SELECT clock_timestamp() $$;

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

CREATE UNIQUE INDEX feed_outbox_position ON feed_outbox (position) WHERE position IS NOT NULL;

CREATE INDEX feed_outbox_pending ON feed_outbox (xid, id) WHERE position IS NULL;

-- The newest version of each subject; its row is the lock that puts one subject's events in order.
CREATE TABLE feed_subject (
  subject text PRIMARY KEY,
  version bigint NOT NULL
);

-- A service token is accepted once: its id stays here until the token would have expired anyway.
CREATE TABLE spent_token (
  jti text PRIMARY KEY,
  expires_at timestamptz NOT NULL
);

CREATE INDEX spent_token_expires_at ON spent_token (expires_at);

-- platform/0001_feed.sql

-- The feed over the outbox: an event gets its position after its commit, by feed_stamp(), which any process may call at any
-- time. There is no leader and no lock that outlives a statement. src/feed/ uses these, and describes the tables to Drizzle.

-- One row. The newest position is not kept here: this row would be rewritten with every stamp, and while somebody holds an old
-- snapshot (a dump), every reader would have to pass all its dead versions.
CREATE TABLE feed_state (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  -- Events up to here are not kept any more.
  trimmed bigint NOT NULL DEFAULT 0,
  -- No event up to this id waits for a position, nor will one: the search for new ones begins after it.
  floor bigint NOT NULL DEFAULT 0,
  floor_at timestamptz NOT NULL DEFAULT '-infinity',
  -- The next floor, once all transactions before this one have ended: every other one draws its ids after it.
  next_floor bigint NOT NULL DEFAULT 0,
  next_floor_xid xid8 NOT NULL DEFAULT '0',
  -- To be raised by hand after a restore that leaves the epoch as it was: of rows into these very tables, of a snapshot of the disk or
  -- the machine, of a cold copy of the data folder. A dump that makes new tables, point-in-time recovery and a promoted standby show by
  -- themselves.
  restores integer NOT NULL DEFAULT 0
);

INSERT INTO feed_state DEFAULT VALUES;

DROP INDEX feed_outbox_pending;

CREATE INDEX feed_outbox_pending ON feed_outbox (id) WHERE position IS NULL;

ALTER TABLE feed_outbox DROP COLUMN xid;

-- True on the primary, and an error elsewhere: what a standby knows may be old, so nobody decides by it.
CREATE FUNCTION concierge_on_primary() RETURNS boolean
  LANGUAGE plpgsql STABLE
  AS $$
    BEGIN
      IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not decide' USING ERRCODE = 'read_only_sql_transaction';
      END IF;
      RETURN true;
    END
  $$;

-- Tells one life of the feed from another: a restored copy has other tables, another database or cluster; a promoted standby has
-- another timeline. Cursors of one life mean nothing in another.
CREATE FUNCTION feed_epoch() RETURNS text
  LANGUAGE plpgsql STABLE
  AS $$
    BEGIN
      PERFORM concierge_on_primary();
      RETURN left(md5(concat_ws('/',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'feed_outbox'::regclass::oid,
        'feed_state'::regclass::oid,
        (SELECT restores FROM feed_state))), 16);
    END
  $$;

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
      SELECT greatest(max(o.position), trimmed) INTO head FROM feed_outbox o;
      pending := EXISTS (SELECT FROM feed_outbox o WHERE o.position IS NULL AND o.id > state.floor);
      late := pending AND EXISTS (
        SELECT FROM feed_outbox o
        WHERE o.position IS NULL AND o.id > state.floor AND o.created_at < concierge_now() - interval '250 ms');
    END
  $$;

-- Raises the floor, at most four times a second, so that its row has few versions; an old floor only makes searches longer. `oldest`:
-- all transactions before it had ended when the stamping began. `reached`: where it stopped, if it did before its end.
CREATE FUNCTION feed_raise_floor(state feed_state, oldest xid8, reached bigint) RETURNS void
  LANGUAGE plpgsql VOLATILE
  AS $$
    DECLARE
      drawn bigint;
    BEGIN
      IF state.floor_at > clock_timestamp() - interval '250 ms' THEN RETURN; END IF;
      -- Ids are drawn by transactions that have their own id already (emit() locks the subjects first). So whoever comes after us
      -- draws after the last one that is drawn now, and this must be read before we take an id ourselves.
      drawn := coalesce(pg_sequence_last_value('feed_outbox_id_seq'::regclass), 0);
      IF oldest >= state.next_floor_xid THEN
        UPDATE feed_state SET
          floor = greatest(floor, least(next_floor, coalesce(reached, next_floor))),
          floor_at = clock_timestamp(), next_floor = drawn, next_floor_xid = pg_current_xact_id();
      ELSIF state.next_floor_xid > pg_current_xact_id() THEN
        -- Of another cluster, from which this database was restored.
        UPDATE feed_state SET floor_at = clock_timestamp(), next_floor = drawn, next_floor_xid = pg_current_xact_id();
      END IF;
    END
  $$;

-- Gives positions to committed events, in the order of their ids, at most so many; returns how many. To be called in a transaction
-- of its own, READ COMMITTED.
CREATE FUNCTION feed_stamp(most integer) RETURNS integer
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
        FROM chosen WHERE o.id = chosen.id AND o.position IS NULL RETURNING o.id
      )
      SELECT count(*), max(id) INTO stamped, newest FROM given;
      IF stamped > 0 THEN PERFORM pg_notify('concierge_feed', ''); END IF;
      PERFORM feed_raise_floor(state, oldest, CASE WHEN stamped = most THEN newest END);
      RETURN stamped;
    END
  $$;

-- Deletes events, oldest positions first, up to the last one that was written before `until`, at most so many; returns how many.
-- Waits for no reader.
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

-- Every row is rewritten once and later deleted: vacuum must not wait until a fifth of the table is dead.
ALTER TABLE feed_outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- How far this service has come with the feeds of others. Moved in the transaction of the effect, by compare-and-set.
CREATE TABLE feed_cursor (
  source text PRIMARY KEY,
  epoch text NOT NULL,
  position bigint NOT NULL
);

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

CREATE INDEX feed_parked_subject ON feed_parked (source, subject, number);

-- platform/0002_feed_floor.sql

-- The rows to stamp are looked for above the floor in both places: without that, the plan that a connection keeps may read the whole
-- outbox for each stamp, or all that is dead in the index of waiting rows.
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

-- platform/0003_feed_lease.sql

-- Who does for this service what one process should do at a time, until when. A holder that stands still loses it without being
-- asked, so whatever rests on it must bear two at once (src/feed/leases.ts).
CREATE TABLE feed_lease (
  name text PRIMARY KEY,
  holder text NOT NULL,
  until timestamptz NOT NULL
);

-- platform/0004_stamp_one_by_one.sql

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

-- auth/0000_init.sql

CREATE TABLE "accounts" (
	"id" uuid PRIMARY KEY NOT NULL,
	"email" text NOT NULL,
	"email_key" text NOT NULL,
	"first_name" text NOT NULL,
	"last_name" text NOT NULL,
	"locale" text NOT NULL,
	"generation" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "accounts_email_key" UNIQUE("email_key")
);

CREATE TABLE "credentials" (
	"account_id" uuid PRIMARY KEY NOT NULL,
	"password_hash" text NOT NULL,
	"version" integer DEFAULT 1 NOT NULL
);

CREATE TABLE "refresh_tokens" (
	"session_id" uuid NOT NULL,
	"number" integer NOT NULL,
	"token_hash" "bytea" NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "refresh_tokens_session_id_number_pk" PRIMARY KEY("session_id","number"),
	CONSTRAINT "refresh_tokens_hash" UNIQUE("token_hash")
);

CREATE TABLE "sessions" (
	"id" uuid PRIMARY KEY NOT NULL,
	"account_id" uuid NOT NULL,
	"generation" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone
);

ALTER TABLE "credentials" ADD CONSTRAINT "credentials_account_id_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;

ALTER TABLE "refresh_tokens" ADD CONSTRAINT "refresh_tokens_session_id_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "public"."sessions"("id") ON DELETE cascade ON UPDATE no action;

ALTER TABLE "sessions" ADD CONSTRAINT "sessions_account_id_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;

CREATE INDEX "sessions_account" ON "sessions" USING btree ("account_id");

-- auth/0001_ended_sessions.sql

ALTER TABLE "sessions" ADD COLUMN "tokens_expire_at" timestamp with time zone;

UPDATE "sessions" SET "tokens_expire_at" = "expires_at";

ALTER TABLE "sessions" ALTER COLUMN "tokens_expire_at" SET NOT NULL;

CREATE INDEX "sessions_ended" ON "sessions" USING btree ("tokens_expire_at") WHERE "sessions"."ended_at" is not null;

-- auth/0002_accounts.sql

CREATE TABLE "attempt_buckets" (
	"key" "bytea" PRIMARY KEY NOT NULL,
	"attempt_seconds" double precision NOT NULL,
	"free_at" timestamp with time zone NOT NULL,
	"failures" integer NOT NULL,
	"refusals" integer DEFAULT 0 NOT NULL,
	"expires_at" timestamp with time zone NOT NULL
);

CREATE TABLE "audit_chain" (
	"position" bigint PRIMARY KEY NOT NULL,
	"audit_id" bigint NOT NULL,
	"hash" "bytea" NOT NULL,
	CONSTRAINT "audit_chain_audit_id" UNIQUE("audit_id")
);

CREATE TABLE "audit_log" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_log_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"action" text NOT NULL,
	"outcome" text NOT NULL,
	"reason" text NOT NULL,
	"account_id" uuid,
	"session_id" uuid,
	"actor" text NOT NULL,
	"address" text NOT NULL,
	"user_agent" text NOT NULL,
	"request_id" text NOT NULL
);

CREATE TABLE "device_tokens" (
	"token_hash" "bytea" PRIMARY KEY NOT NULL,
	"account_id" uuid NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL
);

CREATE TABLE "mails" (
	"id" uuid PRIMARY KEY NOT NULL,
	"account_id" uuid NOT NULL,
	"kind" text NOT NULL,
	"recipient" text NOT NULL,
	"address" text NOT NULL,
	"token_hash" "bytea",
	"key_id" text NOT NULL,
	"credential_version" integer NOT NULL,
	"token_used_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"last_attempt_at" timestamp with time zone,
	"next_attempt_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"sent_at" timestamp with time zone,
	"given_up_at" timestamp with time zone,
	CONSTRAINT "mails_token_hash" UNIQUE("token_hash")
);

CREATE TABLE "removed_keys" (
	"key_id" text PRIMARY KEY NOT NULL,
	"removed_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

DROP INDEX "sessions_account";

ALTER TABLE "accounts" ADD COLUMN "kind" text DEFAULT 'user' NOT NULL;

ALTER TABLE "accounts" ADD COLUMN "status" text DEFAULT 'active' NOT NULL;

ALTER TABLE "accounts" ADD COLUMN "email_verified_at" timestamp with time zone;

ALTER TABLE "accounts" ADD COLUMN "stage_name" text DEFAULT '' NOT NULL;

ALTER TABLE "refresh_tokens" ADD COLUMN "used_at" timestamp with time zone;

ALTER TABLE "refresh_tokens" ADD COLUMN "idempotency_key_hash" "bytea";

ALTER TABLE "refresh_tokens" ADD COLUMN "key_id" text;

ALTER TABLE "sessions" ADD COLUMN "user_agent" text DEFAULT '' NOT NULL;

ALTER TABLE "sessions" ADD COLUMN "address" text DEFAULT '' NOT NULL;

ALTER TABLE "sessions" ADD COLUMN "last_used_at" timestamp with time zone DEFAULT concierge_now() NOT NULL;

ALTER TABLE "sessions" ADD COLUMN "end_reason" text;

ALTER TABLE "device_tokens" ADD CONSTRAINT "device_tokens_account_id_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;

ALTER TABLE "mails" ADD CONSTRAINT "mails_account_id_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;

CREATE INDEX "attempt_buckets_expired" ON "attempt_buckets" USING btree ("expires_at");

CREATE INDEX "audit_log_account" ON "audit_log" USING btree ("account_id","id");

CREATE INDEX "audit_log_at" ON "audit_log" USING btree ("at");

CREATE INDEX "device_tokens_account" ON "device_tokens" USING btree ("account_id","created_at");

CREATE INDEX "device_tokens_expired" ON "device_tokens" USING btree ("expires_at");

CREATE INDEX "mails_waiting" ON "mails" USING btree ("next_attempt_at") WHERE "mails"."sent_at" is null and "mails"."given_up_at" is null;

CREATE INDEX "mails_account" ON "mails" USING btree ("account_id","kind","created_at");

CREATE INDEX "mails_created" ON "mails" USING btree ("created_at");

CREATE INDEX "sessions_live" ON "sessions" USING btree ("account_id","created_at") WHERE "sessions"."ended_at" is null;

CREATE INDEX "sessions_newest" ON "sessions" USING btree ("account_id","created_at");

CREATE INDEX "sessions_expired" ON "sessions" USING btree ("expires_at");

-- Tables with this comment get no UPDATE and DELETE for the run-time role (src/db/migrate.ts).
COMMENT ON TABLE audit_log IS 'append-only';

COMMENT ON TABLE audit_chain IS 'append-only';

-- The hash of a row's link: over the hash before it and every column, written in a way that no setting changes.
CREATE FUNCTION audit_link(previous bytea, entry audit_log) RETURNS bytea
  LANGUAGE sql STABLE
  AS $$
    SELECT sha256(previous || convert_to(jsonb_build_array(
      entry.id, (extract(epoch FROM entry.at) * 1000000)::bigint, entry.action, entry.outcome, entry.reason,
      entry.account_id, entry.session_id, entry.actor, entry.address, entry.user_agent, entry.request_id)::text, 'UTF8'))
  $$;

-- Chains rows that are not chained yet, at most so many; returns how many. One caller at a time: others return 0.
-- A row becomes visible at its commit, later than its time and in any order: whoever looks goes back two minutes behind the
-- last link, which is longer than a transaction can stay open. What comes even later is never chained, and the check says so.
CREATE FUNCTION audit_chain_extend(most integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE
  AS $$
    DECLARE
      last audit_chain;
      chained_until timestamptz;
      entry audit_log;
      added integer := 0;
    BEGIN
      IF NOT pg_try_advisory_xact_lock(1668247043) THEN RETURN 0; END IF;
      SELECT * INTO last FROM audit_chain ORDER BY position DESC LIMIT 1;
      IF NOT FOUND THEN last.position := 0; last.hash := ''; END IF;
      SELECT least(at, concierge_now()) - interval '2 minutes' INTO chained_until FROM audit_log WHERE id = last.audit_id;
      FOR entry IN
        SELECT l.* FROM audit_log l WHERE l.at > coalesce(chained_until, '-infinity')
          AND NOT EXISTS (SELECT FROM audit_chain c WHERE c.audit_id = l.id)
        ORDER BY l.id LIMIT most
      LOOP
        last.position := last.position + 1;
        last.hash := audit_link(last.hash, entry);
        INSERT INTO audit_chain (position, audit_id, hash) VALUES (last.position, entry.id, last.hash);
        added := added + 1;
      END LOOP;
      RETURN added;
    END
  $$;

-- Deletes the rows at the chain's beginning that are older than so many days, and never one of the last 30 days, whatever is
-- asked; looks at so many, and returns how many it deleted. It runs with the owner's rights. The last link that it reaches
-- stays without its row, so that the next one can still be checked.
CREATE FUNCTION audit_trim(days integer, most integer) RETURNS integer
  LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
  AS $$
    DECLARE
      oldest_kept timestamptz := concierge_now() - make_interval(days => greatest(days, 30));
      newest bigint;
      deleted integer;
    BEGIN
      IF NOT pg_try_advisory_xact_lock(1668247043) THEN RETURN 0; END IF;
      SELECT max(position) INTO newest FROM (
        SELECT position, bool_and(at < oldest_kept) OVER (ORDER BY position) AS is_old FROM (
          SELECT c.position, l.at FROM audit_chain c LEFT JOIN audit_log l ON l.id = c.audit_id ORDER BY c.position LIMIT most
        ) first
      ) judged WHERE is_old IS NOT FALSE;
      IF newest IS NULL THEN RETURN 0; END IF;
      DELETE FROM audit_log l USING audit_chain c WHERE c.audit_id = l.id AND c.position <= newest;
      GET DIAGNOSTICS deleted = ROW_COUNT;
      DELETE FROM audit_chain WHERE position < newest;
      RETURN deleted;
    END
  $$;

-- auth/0003_organizations.sql

CREATE TABLE "mail_requests" (
	"id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"email_key" text NOT NULL,
	"address" text NOT NULL,
	"user_agent" text NOT NULL,
	"request_id" text NOT NULL,
	"asked_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"next_attempt_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

ALTER TABLE "mails" ALTER COLUMN "account_id" DROP NOT NULL;

ALTER TABLE "accounts" ADD COLUMN "last_organization_id" uuid;

ALTER TABLE "mails" ADD COLUMN "recipient_key" text;

ALTER TABLE "mails" ADD COLUMN "organization_name" text DEFAULT '' NOT NULL;

CREATE INDEX "mail_requests_waiting" ON "mail_requests" USING btree ("next_attempt_at");

CREATE INDEX "mails_invited" ON "mails" USING btree ("recipient_key","created_at") WHERE "mails"."recipient_key" is not null;

-- What the migrations have put in is among the rows.
TRUNCATE "accounts", "attempt_buckets", "audit_chain", "audit_log", "concierge_migration", "feed_cursor", "feed_lease", "feed_outbox", "feed_parked", "feed_state", "feed_subject", "mail_requests", "removed_keys", "spent_token", "credentials", "device_tokens", "mails", "sessions", "refresh_tokens";

COPY "accounts" ("id", "email", "email_key", "first_name", "last_name", "locale", "generation", "created_at", "kind", "status", "email_verified_at", "stage_name", "last_organization_id") FROM stdin;
01a2050c-c17f-7201-a78b-98d2370358d9	journey-50f0ada368aa@example.com	journey-50f0ada368aa@example.com	Ann	Lee	en	1	2026-11-22 20:57:31.778503+00	user	active	\N		01a2050c-c7ad-751c-8aa1-65978b74b085
01a2050c-c4cb-74f4-86b6-b0ee60c67851	artist-50f0ada368aa@example.com	artist-50f0ada368aa@example.com				0	2026-11-22 20:57:32.628106+00	artist	active	\N	Night Owls 50f0ada368aa	\N
01a2050c-d575-7757-b2bf-e3e30d4a2492	ann@example.com	ann@example.com	Ann	Lee		1	2026-11-22 20:57:36.914704+00	user	active	2026-11-22 20:57:37.756524+00		\N
01a2050c-dd7f-73cc-8ed3-cbad5b13f416	ben@example.com	ben@example.com	Ben	Lee		1	2026-11-22 20:57:38.944495+00	user	active	2026-11-22 20:57:39.561389+00		\N
01a2050c-e2fe-71b6-b354-8a8ba7c69166	disabled@example.com	disabled@example.com	Disabled	Lee		1	2026-11-22 20:57:40.372921+00	user	disabled	\N		\N
01a2050c-e508-7528-88c9-dfc92f0de391		01a2050c-e508-7528-88c9-dfc92f0de391				1	2026-11-22 20:57:40.878648+00	user	deleted	\N		\N
01a2050c-e979-77dc-bb31-66019a5aae79	imported@example.com	imported@example.com				0	2026-11-22 20:57:42.041016+00	user	active	2026-11-22 20:57:42.041016+00		\N
01a2050c-ef63-71a1-940b-4e9f150ab46a	newcomer@example.com	newcomer@example.com	Newcomer	Lee		0	2026-11-22 20:57:43.528354+00	user	active	\N		\N
\.

COPY "attempt_buckets" ("key", "attempt_seconds", "free_at", "failures", "refusals", "expires_at") FROM stdin;
\\x1a9aad8010ccfbd777ab5cd8a0bf33538bca1c2475d696eab14d205ee9df1e5f	60	2026-11-22 20:48:43.56113+00	0	0	2026-12-22 20:57:43.561133+00
\\x82a0d38fd27020a2f4b03ab406ad58e53fbe992b6928581bea0dc22a4ba43ef6	60	2026-11-22 20:48:35.310913+00	0	0	2026-12-22 20:57:35.310916+00
\\x9ee868df02fa418ac078f7460102fc72f068cb9679a76bf7c6772bb9fa21d237	60	2026-11-22 20:48:39.568035+00	0	0	2026-12-22 20:57:39.568037+00
\\xa37b50ecc8eadf7389c4200ce856dd7d2718911a691ac6244a81bb166b7ba604	60	2026-11-22 20:48:38.068364+00	0	0	2026-12-22 20:57:38.068366+00
\\xc29c1e7678c2fc585b596ee9226703c9e8d74c03ce18e307c2d7a83613d6a09b	60	2026-11-22 20:48:32.855275+00	0	0	2026-12-22 20:57:32.855278+00
\\xd517231fd68318f27e71498ef7960120edcf9a4deebec48730928ed105b64f78	60	2026-11-22 20:48:40.430466+00	0	0	2026-12-22 20:57:40.430469+00
\\xf2db127513f9163fd67c8dc0659dddc8873d1744ae95fd6f53db300df396cbaa	10	2026-11-22 20:56:05.575692+00	0	0	2026-12-22 20:57:35.575694+00
\.

COPY "audit_chain" ("position", "audit_id", "hash") FROM stdin;
1	1	\\x08769284315fc52c2a2ea7ef08bbd7d13ad96b481b1112df4a5dffcb3bc05368
2	2	\\x9fc6df877dbd718f41f0b20c415e881a393ca438ed411b6d7114e4923c3b2f6a
3	3	\\xc188777351c8bfcfae7f3cb86ccbc6e7df06a137856642ef5c51068323b2b079
4	4	\\x518a5bf223fe9991ab34ec536930a1ad18aa6f403874c7b68e590caa0459e2e7
5	5	\\xffabddaffc24e2889fd455176b40d01bae9deb0000538aba65db3e3df32354c3
6	6	\\x30eacb02bc1c615b0e39b8089f4a4c8090ed4ad2429fecc42500d798cbbe0515
7	7	\\xc0f739a28a27aca1273fb50a1287fb93c88d8eca93a7d96a49295da0477df8b0
8	8	\\x9f13869c5d746f08242e434539f2336717c0eb072b7976675efaff7704a32701
9	9	\\x24064be2a8e5ff8d00d5b9a4f98d792bed21e49b4757191ca7131b68555dccdc
10	10	\\x9f449fc8778283032affbea406aed5871249348fd89d6abecbfcd93836cd399b
11	11	\\xa48cbeffde65c96f6960833bd5d913b8b6dc8145de97f21e2c3dd0466cb6df17
12	12	\\x84fea49af17e9b7fa137160c35c663729124de35da81f9ffa1ab64121662c3b9
13	13	\\x9503c9a8dbc7c0d264db5a3ee1b1dc9de260490b81b02b60e9c64a61d604e81e
14	14	\\x4a625083b61693edc8f6417c3abb9d8d477b9a0f2d8a85c16d0233c97dad11dd
15	15	\\x554d5a1335af63823bdb56acf56f6302dc9003734ef8a0c3b423d043e0e0405d
16	16	\\xa290ca13419548b4d80cbfaffbabfdb9c56968807f49808835fa47e9bcccc4db
17	17	\\xc7348c3dacd748536dc284d16790ecb97cb3761ae082e98e15fda331c58594bd
18	18	\\x8c25763f3f16cc9fbb3d36657223dede4dffc2a7410649d28e210b90f870b02c
19	19	\\xe93eafbb59d2bc8ce162fa27442f107bdedf696a5b7fbefa0a19bc197abd4aa4
20	20	\\xc44a6a85c2574939456e078a0924a64a1e4720a6acdec99e2c14d00d7cd07c14
21	21	\\x242504c0ee4be8b33947c0d9c5dee5e007b2b82b3ca66936a952255af59205e8
22	22	\\xdbb4591f9f8e0994ac8f00c58469cdf24028cae997d7f3eec9600d2d13746731
23	23	\\x3229dbedf4d8b2fd951e73a1584ff6d78d6e2bc5a4d55bd1039f604f09498552
24	24	\\x755ae4760a68b58162ca21a00a6afad00840617c59ee2f2b901326240e07c6db
25	25	\\xcff7567dd62af757f6ba204a18f9ce27748f551fb3ea34d7ab27e46ed2bb2278
26	26	\\xeb426acb5ceddc773f24aa1387a7bbbc3906a38241d9e2f373ad92b76aba39e9
27	27	\\xc2ef047eb665a5e65399484f5ac9511a7a91e1f020be5c004437944bdb743c03
28	28	\\x34682f0a2008e4d6a61414047e43eb826c10d7c25995fb583febab6b99ac4d3a
\.

COPY "audit_log" ("id", "at", "action", "outcome", "reason", "account_id", "session_id", "actor", "address", "user_agent", "request_id") FROM stdin;
1	2026-11-22 20:57:31.812883+00	account_registered	success		01a2050c-c17f-7201-a78b-98d2370358d9	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-b3c9-7731-9933-39ea4907ae12
2	2026-11-22 20:57:32.367666+00	login	success		01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-c392-764d-848d-1983fd5ecad6	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-c1c4-760b-8b37-7a5ca62cf695
3	2026-11-22 20:57:32.665205+00	account_registered	success		01a2050c-c4cb-74f4-86b6-b0ee60c67851	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-c425-747a-8ec7-ad01172f7a18
4	2026-11-22 20:57:33.085669+00	login	success		01a2050c-c4cb-74f4-86b6-b0ee60c67851	01a2050c-c699-74dc-90e2-dc695f6b01c1	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-c5ab-716a-83b6-2181192ae243
5	2026-11-22 20:57:33.286941+00	login	success		01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-c75a-72fd-82a1-5b1f05516049	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-c6cf-76f5-ad3a-3d82e049fe6a
6	2026-11-22 20:57:34.721747+00	session_ended	success	logout	01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-c75a-72fd-82a1-5b1f05516049	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-cccd-72d8-baee-e2afd7325848
7	2026-11-22 20:57:35.432043+00	login	success		01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-cfc2-725d-bb04-e160862f640e	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-cf4c-76ef-9e6a-1a5d66d5c0b1
8	2026-11-22 20:57:35.486455+00	session_ended	success		01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-cfc2-725d-bb04-e160862f640e	user 01a2050c-c17f-7201-a78b-98d2370358d9	127.0.0.1	connect-es/2.2.0	01a2050c-cfec-709c-a6aa-22519b4c4a40
9	2026-11-22 20:57:36.029542+00	password_changed	success		01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-d219-7012-9bd3-3f139edf6fee	user 01a2050c-c17f-7201-a78b-98d2370358d9	127.0.0.1	connect-es/2.2.0	01a2050c-d052-7286-965a-67658ef32107
10	2026-11-22 20:57:36.210522+00	session_ended	success	logout	01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-d219-7012-9bd3-3f139edf6fee	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-d2cc-7625-b449-a2721b90fcf3
11	2026-11-22 20:57:36.939101+00	account_registered	success		01a2050c-d575-7757-b2bf-e3e30d4a2492	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-d3da-754e-bb76-9c4cf4a4c687
12	2026-11-22 20:57:37.446078+00	login	success		01a2050c-d575-7757-b2bf-e3e30d4a2492	01a2050c-d794-77df-af91-b3e48a8cb176	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-d5d5-71e0-9dea-cc677792ff48
13	2026-11-22 20:57:37.766318+00	email_verified	success		01a2050c-d575-7757-b2bf-e3e30d4a2492	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-d82a-73c5-b3f2-443c0aa03fc4
14	2026-11-22 20:57:38.649282+00	login	success		01a2050c-d575-7757-b2bf-e3e30d4a2492	01a2050c-dc4a-76ef-8698-e7d2d4904488	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-d8f6-778f-ad31-1c1a2d3c84cf
15	2026-11-22 20:57:38.949664+00	account_registered	success		01a2050c-dd7f-73cc-8ed3-cbad5b13f416	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-dc73-70f3-9b27-b167cc9090f5
16	2026-11-22 20:57:39.299932+00	login	success		01a2050c-dd7f-73cc-8ed3-cbad5b13f416	01a2050c-dea3-753f-9060-fbff29a88863	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-dd8f-7327-a788-6e62d18ff1d4
17	2026-11-22 20:57:39.563254+00	email_verified	success		01a2050c-dd7f-73cc-8ed3-cbad5b13f416	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-df0a-75fc-9de6-913cea1f51dd
18	2026-11-22 20:57:39.800196+00	login	success		01a2050c-dd7f-73cc-8ed3-cbad5b13f416	01a2050c-e0b2-7576-afdb-84b4da5ecb92	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-dfed-77fa-8bbf-c09fe69b028e
19	2026-11-22 20:57:40.376373+00	account_registered	success		01a2050c-e2fe-71b6-b354-8a8ba7c69166	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-e22c-76f1-9820-865596171d04
20	2026-11-22 20:57:40.569543+00	login	success		01a2050c-e2fe-71b6-b354-8a8ba7c69166	01a2050c-e3cc-770b-8d9d-d48cb16b123e	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-e327-7321-b43b-8964098c011e
21	2026-11-22 20:57:40.644071+00	account_disabled	success		01a2050c-e2fe-71b6-b354-8a8ba7c69166	\N	operator operator	127.0.0.1	connect-es/2.2.0	01a2050c-e3de-702f-9708-51d8cb1894c8
22	2026-11-22 20:57:40.892844+00	account_registered	success		01a2050c-e508-7528-88c9-dfc92f0de391	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-e429-7124-8e76-1b44d8737302
23	2026-11-22 20:57:41.005629+00	login	success		01a2050c-e508-7528-88c9-dfc92f0de391	01a2050c-e58a-7248-aa3a-f6e07f03a124	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-e520-703e-ace0-9b07d750ed96
24	2026-11-22 20:57:41.495306+00	account_deleted	success		01a2050c-e508-7528-88c9-dfc92f0de391	\N	user 01a2050c-e508-7528-88c9-dfc92f0de391	127.0.0.1	connect-es/2.2.0	01a2050c-e59a-745e-a0df-e8cdd9464ff3
25	2026-11-22 20:57:42.109714+00	account_imported	success		01a2050c-e979-77dc-bb31-66019a5aae79	\N	operator operator	127.0.0.1	connect-es/2.2.0	01a2050c-e972-75d5-a16e-3b139d73b530
26	2026-11-22 20:57:42.231137+00	password_reset_asked	success		01a2050c-e979-77dc-bb31-66019a5aae79	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-ea09-748e-9dbc-f3f4cbc59846
27	2026-11-22 20:57:42.250355+00	signing_key_removed	success	aSJKmb13C4y91FxmgZzMjqfZcqaxt8g5-mCoNwBgQzM	\N	\N	operator operator	127.0.0.1	connect-es/2.2.0	01a2050c-ea40-755a-8eb3-f6cd1a4f208a
28	2026-11-22 20:57:43.541255+00	account_registered	success		01a2050c-ef63-71a1-940b-4e9f150ab46a	\N	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-eeec-70f0-9c3c-4de5eb5be93d
29	2026-11-22 20:57:43.673985+00	login	success		01a2050c-ef63-71a1-940b-4e9f150ab46a	01a2050c-eff4-74ab-93c8-83d6740c0b0a	anonymous	127.0.0.1	connect-es/2.2.0	01a2050c-ef7d-742e-91cf-8cb793cc5d6c
\.

COPY "concierge_migration" ("series", "name", "checksum", "applied_at", "is_expansion") FROM stdin;
auth	0000_init	3f62f7100748d587f3d4cf899b62e5c562c99832d2a8cfae5d627a36831596bc	2026-11-22 20:24:51.811077+00	f
auth	0001_ended_sessions	4a6d913b82d6fe64e04c92bab57b8ad7e82faa2b6f3d8c60c5b9a076ca7cdc6d	2026-11-22 20:24:51.873057+00	f
auth	0002_accounts	fde9653af58aec61f292756305e88e6cf386ad409e24332126de9451d9f68486	2026-11-22 20:24:51.875295+00	f
auth	0003_organizations	5d7ab5fa9c0fde2256c953faccbcf8f89a9e0e102f3f3cbf384eace2b2d041d5	2026-11-22 20:24:51.95677+00	f
platform	0000_platform	5110a64353697a2da8e01a7bf20c95c595a6eb2c55731f280b56268107c7bde4	2026-11-22 20:24:51.649925+00	f
platform	0004_stamp_one_by_one	90ec5a159cbd490dcad26943798c784d2261c6b2ccc4076732661de45c76f045	2026-11-22 20:24:51.809358+00	f
platform	0001_feed	19b41241a202bea274a8e9755e0c2eb827d27622ddbe9e78681ae50e9e1e47bc	2026-11-22 20:24:51.703803+00	f
platform	0002_feed_floor	c1d233bde95993b71b9e065b2918f5545f512cc0fb9a1a6c7ee3df0c80d36568	2026-11-22 20:24:51.785316+00	f
platform	0003_feed_lease	10fbb1b73836f6d7ea6de23295e7e9706b8fb991731ef7c2890a314df6b8a8cf	2026-11-22 20:24:51.787182+00	f
\.

COPY "feed_cursor" ("source", "epoch", "position") FROM stdin;
organization	d0671d38016968d8	14
user	6dc2ceba0ed5f2f9	9
\.

COPY "feed_lease" ("name", "holder", "until") FROM stdin;
\.

COPY "feed_outbox" ("id", "position", "type", "subject", "version", "payload", "created_at") FROM stdin;
1	1	concierge.auth.v1.AccountRegistered	account/01a2050c-c17f-7201-a78b-98d2370358d9	1	\\x0a2430316132303530632d633137662d373230312d613738622d39386432333730333538643912206a6f75726e65792d353066306164613336386161406578616d706c652e636f6d1a03416e6e22034c65652a02656e320c08bbae8dd8061080adfdf2023801	2026-11-22 20:57:31.783541+00
2	2	concierge.auth.v1.SessionStarted	account/01a2050c-c17f-7201-a78b-98d2370358d9	2	\\x0a2430316132303530632d633339322d373634642d383438642d313938336664356563616436122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:32.347352+00
3	3	concierge.auth.v1.AccountRegistered	account/01a2050c-c4cb-74f4-86b6-b0ee60c67851	1	\\x0a2430316132303530632d633463622d373466342d383662362d623065653630633637383531121f6172746973742d353066306164613336386161406578616d706c652e636f6d320c08bcae8dd80610808abaab02380242174e69676874204f776c7320353066306164613336386161	2026-11-22 20:57:32.630985+00
4	4	concierge.auth.v1.SessionStarted	account/01a2050c-c4cb-74f4-86b6-b0ee60c67851	2	\\x0a2430316132303530632d633639392d373464632d393065322d646336393566366230316331122430316132303530632d633463622d373466342d383662362d623065653630633637383531	2026-11-22 20:57:33.084802+00
5	5	concierge.auth.v1.SessionStarted	account/01a2050c-c17f-7201-a78b-98d2370358d9	3	\\x0a2430316132303530632d633735612d373266642d383261312d356231663035353136303439122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:33.285249+00
6	6	concierge.auth.v1.SessionEnded	account/01a2050c-c17f-7201-a78b-98d2370358d9	4	\\x0a2430316132303530632d633735612d373266642d383261312d356231663035353136303439122430316132303530632d633137662d373230312d613738622d3938643233373033353864391a0c08e9b08dd80610c0f680d801	2026-11-22 20:57:34.718401+00
7	7	concierge.auth.v1.SessionStarted	account/01a2050c-c17f-7201-a78b-98d2370358d9	5	\\x0a2430316132303530632d636663322d373235642d626230342d653136303836326636343065122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:35.429431+00
8	8	concierge.auth.v1.SessionEnded	account/01a2050c-c17f-7201-a78b-98d2370358d9	6	\\x0a2430316132303530632d636663322d373235642d626230342d653136303836326636343065122430316132303530632d633137662d373230312d613738622d3938643233373033353864391a0c08ebb08dd80610c081cecb01	2026-11-22 20:57:35.485871+00
9	9	concierge.auth.v1.SessionEnded	account/01a2050c-c17f-7201-a78b-98d2370358d9	7	\\x0a2430316132303530632d633339322d373634642d383438642d313938336664356563616436122430316132303530632d633137662d373230312d613738622d3938643233373033353864391a0c08ebb08dd80610c0dcb79101	2026-11-22 20:57:36.027465+00
10	10	concierge.auth.v1.SessionStarted	account/01a2050c-c17f-7201-a78b-98d2370358d9	8	\\x0a2430316132303530632d643231392d373031322d396264332d336631333965646636666565122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:36.027497+00
11	11	concierge.auth.v1.SessionEnded	account/01a2050c-c17f-7201-a78b-98d2370358d9	9	\\x0a2430316132303530632d643231392d373031322d396264332d336631333965646636666565122430316132303530632d633137662d373230312d613738622d3938643233373033353864391a0b08ecb08dd80610c0f0f50b	2026-11-22 20:57:36.208901+00
12	12	concierge.auth.v1.AccountRegistered	account/01a2050c-d575-7757-b2bf-e3e30d4a2492	1	\\x0a2430316132303530632d643537352d373735372d623262662d653365333064346132343932120f616e6e406578616d706c652e636f6d1a03416e6e22034c6565320c08c0ae8dd806108091eab3033801	2026-11-22 20:57:36.933161+00
13	13	concierge.auth.v1.SessionStarted	account/01a2050c-d575-7757-b2bf-e3e30d4a2492	2	\\x0a2430316132303530632d643739342d373764662d616639312d623365343861386362313736122430316132303530632d643537352d373735372d623262662d653365333064346132343932	2026-11-22 20:57:37.44432+00
14	14	concierge.auth.v1.SessionEnded	account/01a2050c-d575-7757-b2bf-e3e30d4a2492	3	\\x0a2430316132303530632d643739342d373764662d616639312d623365343861386362313736122430316132303530632d643537352d373735372d623262662d6533653330643461323439321a0c08edb08dd80610c0aeb0d001	2026-11-22 20:57:37.765748+00
15	15	concierge.auth.v1.SessionStarted	account/01a2050c-d575-7757-b2bf-e3e30d4a2492	4	\\x0a2430316132303530632d646334612d373665662d383639382d653764326434393034343838122430316132303530632d643537352d373735372d623262662d653365333064346132343932	2026-11-22 20:57:38.648145+00
16	16	concierge.auth.v1.AccountRegistered	account/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	1	\\x0a2430316132303530632d646437662d373363632d386564332d636261643562313366343136120f62656e406578616d706c652e636f6d1a0342656e22034c6565320c08c2ae8dd80610809891c2033801	2026-11-22 20:57:38.947303+00
17	17	concierge.auth.v1.SessionStarted	account/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2	\\x0a2430316132303530632d646561332d373533662d393036302d666266663239613838383633122430316132303530632d646437662d373363632d386564332d636261643562313366343136	2026-11-22 20:57:39.254562+00
18	18	concierge.auth.v1.SessionEnded	account/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	3	\\x0a2430316132303530632d646561332d373533662d393036302d666266663239613838383633122430316132303530632d646437662d373363632d386564332d6362616435623133663431361a0b08efb08dd8061080dca076	2026-11-22 20:57:39.562785+00
19	19	concierge.auth.v1.SessionStarted	account/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	4	\\x0a2430316132303530632d653062322d373537362d616664622d383462346461356563623932122430316132303530632d646437662d373363632d386564332d636261643562313366343136	2026-11-22 20:57:39.776161+00
20	20	concierge.auth.v1.AccountRegistered	account/01a2050c-e2fe-71b6-b354-8a8ba7c69166	1	\\x0a2430316132303530632d653266652d373162362d623335342d386138626137633639313636121464697361626c6564406578616d706c652e636f6d1a0844697361626c656422034c6565320c08c4ae8dd80610808ab1b1013801	2026-11-22 20:57:40.374719+00
21	21	concierge.auth.v1.SessionStarted	account/01a2050c-e2fe-71b6-b354-8a8ba7c69166	2	\\x0a2430316132303530632d653363632d373730622d386439642d643438636231366231323365122430316132303530632d653266652d373162362d623335342d386138626137633639313636	2026-11-22 20:57:40.568125+00
22	22	concierge.auth.v1.SessionEnded	account/01a2050c-e2fe-71b6-b354-8a8ba7c69166	3	\\x0a2430316132303530632d653363632d373730622d386439642d643438636231366231323365122430316132303530632d653266652d373162362d623335342d3861386261376336393136361a0c08f0b08dd8061080cf898a02	2026-11-22 20:57:40.642224+00
23	23	concierge.auth.v1.AccountRegistered	account/01a2050c-e508-7528-88c9-dfc92f0de391	1	\\x0a2430316132303530632d653530382d373532382d383863392d646663393266306465333931121364656c65746564406578616d706c652e636f6d1a0744656c6574656422034c6565320c08c4ae8dd8061080efd4a2033801	2026-11-22 20:57:40.884245+00
24	24	concierge.auth.v1.SessionStarted	account/01a2050c-e508-7528-88c9-dfc92f0de391	2	\\x0a2430316132303530632d653538612d373234382d616133612d663665303766303361313234122430316132303530632d653530382d373532382d383863392d646663393266306465333931	2026-11-22 20:57:41.003556+00
25	25	concierge.auth.v1.SessionEnded	account/01a2050c-e508-7528-88c9-dfc92f0de391	3	\\x0a2430316132303530632d653538612d373234382d616133612d663665303766303361313234122430316132303530632d653530382d373532382d383863392d6466633932663064653339311a0a08f1b08dd8061080897a	2026-11-22 20:57:41.492912+00
26	26	concierge.auth.v1.AccountDeleted	account/01a2050c-e508-7528-88c9-dfc92f0de391	4	\\x0a2430316132303530632d653530382d373532382d383863392d646663393266306465333931	2026-11-22 20:57:41.493955+00
27	27	concierge.auth.v1.AccountRegistered	account/01a2050c-e979-77dc-bb31-66019a5aae79	1	\\x0a2430316132303530632d653937392d373764632d626233312d3636303139613561616537391214696d706f72746564406578616d706c652e636f6d320b08c6ae8dd80610c0b8c6133801	2026-11-22 20:57:42.087114+00
28	28	concierge.auth.v1.SigningKeyRemoved	key/aSJKmb13C4y91FxmgZzMjqfZcqaxt8g5-mCoNwBgQzM	1	\\x0a2b61534a4b6d623133433479393146786d675a7a4d6a71665a63716178743867352d6d436f4e774267517a4d	2026-11-22 20:57:42.243464+00
29	\N	concierge.auth.v1.AccountRegistered	account/01a2050c-ef63-71a1-940b-4e9f150ab46a	1	\\x0a2430316132303530632d656636332d373161312d393430622d34653966313530616234366112146e6577636f6d6572406578616d706c652e636f6d1a084e6577636f6d657222034c6565320c08c7ae8dd8061080c8e2fb013801	2026-11-22 20:57:43.53676+00
30	\N	concierge.auth.v1.SessionStarted	account/01a2050c-ef63-71a1-940b-4e9f150ab46a	2	\\x0a2430316132303530632d656666342d373461622d393363382d383364363734306330623061122430316132303530632d656636332d373161312d393430622d346539663135306162343661	2026-11-22 20:57:43.67212+00
\.

COPY "feed_parked" ("source", "number", "event_id", "type", "subject", "version", "position", "created_at", "payload", "parked_at") FROM stdin;
\.

COPY "feed_state" ("one", "trimmed", "floor", "floor_at", "next_floor", "next_floor_xid", "restores") FROM stdin;
t	0	26	2026-11-22 20:57:42.148848+00	27	1100	0
\.

COPY "feed_subject" ("subject", "version") FROM stdin;
account/01a2050c-c17f-7201-a78b-98d2370358d9	9
account/01a2050c-c4cb-74f4-86b6-b0ee60c67851	2
account/01a2050c-d575-7757-b2bf-e3e30d4a2492	4
account/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	4
account/01a2050c-e2fe-71b6-b354-8a8ba7c69166	3
account/01a2050c-e508-7528-88c9-dfc92f0de391	4
account/01a2050c-e979-77dc-bb31-66019a5aae79	1
account/01a2050c-ef63-71a1-940b-4e9f150ab46a	2
key/aSJKmb13C4y91FxmgZzMjqfZcqaxt8g5-mCoNwBgQzM	1
\.

COPY "mail_requests" ("id", "kind", "email_key", "address", "user_agent", "request_id", "asked_at", "next_attempt_at") FROM stdin;
\.

COPY "removed_keys" ("key_id", "removed_at") FROM stdin;
aSJKmb13C4y91FxmgZzMjqfZcqaxt8g5-mCoNwBgQzM	2026-11-22 20:57:42.235261+00
\.

COPY "spent_token" ("jti", "expires_at") FROM stdin;
\.

COPY "credentials" ("account_id", "password_hash", "version") FROM stdin;
01a2050c-c17f-7201-a78b-98d2370358d9	$argon2id$v=19$m=19456,p=1,t=2$0rh7Fn7Rs7OttqhgljzWTA$mPuWSR/N5pxh3Z73+Pg+NCoQZfUYiVe6zKoyB9cPJSE	2
01a2050c-c4cb-74f4-86b6-b0ee60c67851	$argon2id$v=19$m=19456,p=1,t=2$BlVJH7Q7k7YLehajGMzDeA$zk+ja5SMDe5Jn/xtAc0t7YnH9niOF9v+JLr/g7v3pWU	1
01a2050c-d575-7757-b2bf-e3e30d4a2492	$argon2id$v=19$m=19456,p=1,t=2$uhLtOlm+j1GVV09e19GlWQ$bPxgpejLBPksH74HsgSN/qFBiJAuYWxD2bUurrLReKM	1
01a2050c-dd7f-73cc-8ed3-cbad5b13f416	$argon2id$v=19$m=19456,p=1,t=2$NfcaoHtfd6NGaVD8T8Z0YQ$g8H0p/KMmHSp05ZGJBn70u4b3OOyfEojjFPaYBjzduQ	1
01a2050c-e2fe-71b6-b354-8a8ba7c69166	$argon2id$v=19$m=19456,p=1,t=2$PaJuC90HOPkiPDto6BtvFg$HVHZPILI3SEgWkuevlVTZi0wCnWBX5bf+/0G0cbvfI0	1
01a2050c-e979-77dc-bb31-66019a5aae79	$2b$10$ou6B7aSkubiG6um/obTpqOrfP446egkwEnTC..OWz82uYpfISITay	1
01a2050c-ef63-71a1-940b-4e9f150ab46a	$argon2id$v=19$m=19456,p=1,t=2$JkHm85w7CGhVfAbmcMzhcw$4YDscd805iZu9pkcFm/QOigu8gban+xJdL4NPQpfpWE	1
\.

COPY "device_tokens" ("token_hash", "account_id", "created_at", "expires_at") FROM stdin;
\\x22997f86b9670478d9f7a9200b155901dfb098386874504cce5e44b3fa74a5e3	01a2050c-ef63-71a1-940b-4e9f150ab46a	2026-11-22 20:57:43.675113+00	2027-05-21 20:57:43.675114+00
\\x286eb59a74b19a66b3e71aeefb7a5f6bb10935fcd8d426245ef691d708d032d2	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:38.651228+00	2027-05-21 20:57:38.651228+00
\\x63af8fd8ef7b0004f0e902edc1cbc9e626b950394734a4d6cbc4956d5563ee46	01a2050c-c17f-7201-a78b-98d2370358d9	2026-11-22 20:57:36.032216+00	2027-05-21 20:57:36.032216+00
\\x7a061681ea5da63eabc83926d78be7a48d8c9c2dc0c9972136ad8def95bbf9cf	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:37.453698+00	2027-05-21 20:57:37.453698+00
\\xb13cdafd174f6a6391785c57c0116d5060942e680b96f1feda0f0dcc6d1442b8	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2026-11-22 20:57:39.808088+00	2027-05-21 20:57:39.808088+00
\\xd2e2d6774b40bda9bfda679d76fddfa82659512520a554ae78fc45efbcf17064	01a2050c-c4cb-74f4-86b6-b0ee60c67851	2026-11-22 20:57:33.086874+00	2027-05-21 20:57:33.086874+00
\\xf4a1fbf16a666c60de3c22c64b2c3712bf2cb7ad8a95cd34f1fef151d66f6d58	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2026-11-22 20:57:39.302684+00	2027-05-21 20:57:39.302684+00
\.

COPY "mails" ("id", "account_id", "kind", "recipient", "address", "token_hash", "key_id", "credential_version", "token_used_at", "created_at", "attempts", "last_attempt_at", "next_attempt_at", "sent_at", "given_up_at", "recipient_key", "organization_name") FROM stdin;
01a2050c-c188-737f-9dac-e5bc0ad717a2	01a2050c-c17f-7201-a78b-98d2370358d9	verify_email	journey-50f0ada368aa@example.com	127.0.0.1	\\xce1b2258e9c67406cc0202bef6190cbe37593694e5f010585d4187d840ff43a1	2f06e1a20c5a	1	\N	2026-11-22 20:57:31.795251+00	1	2026-11-22 20:57:31.817616+00	2026-11-22 20:59:31.817616+00	2026-11-22 20:57:31.848502+00	\N	\N	
01a2050c-c4d7-7258-bd41-69be48e7760b	01a2050c-c4cb-74f4-86b6-b0ee60c67851	verify_email	artist-50f0ada368aa@example.com	127.0.0.1	\\x926d3863d05e6407d55fa8a5efbea52973a2dedaa66e4b4e0f961f92bceac0ac	2f06e1a20c5a	1	\N	2026-11-22 20:57:32.633097+00	1	2026-11-22 20:57:32.672677+00	2026-11-22 20:59:32.672677+00	2026-11-22 20:57:32.695503+00	\N	\N	
01a2050c-d21b-745c-9644-8e77c5014c29	01a2050c-c17f-7201-a78b-98d2370358d9	password_changed	journey-50f0ada368aa@example.com	127.0.0.1	\N	2f06e1a20c5a	2	\N	2026-11-22 20:57:36.028667+00	1	2026-11-22 20:57:36.903231+00	2026-11-22 20:59:36.903231+00	2026-11-22 20:57:36.914207+00	\N	\N	
01a2050c-d5a8-772b-b94d-526f83a7aa95	01a2050c-d575-7757-b2bf-e3e30d4a2492	verify_email	ann@example.com	127.0.0.1	\\xb1d7e38093c96e571a871273672ce7f32b362f063de738f8f760cd1d51566a5a	2f06e1a20c5a	1	2026-11-22 20:57:37.754435+00	2026-11-22 20:57:36.937999+00	1	2026-11-22 20:57:36.954124+00	2026-11-22 20:59:36.954124+00	2026-11-22 20:57:36.966168+00	\N	\N	
01a2050c-dd83-74a8-94be-a86336a95dc5	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	verify_email	ben@example.com	127.0.0.1	\\xa18b95b0aff0ac05c66a8c7bcf66b891e29326c177a83ba615980fa0036cf733	2f06e1a20c5a	1	2026-11-22 20:57:39.560645+00	2026-11-22 20:57:38.94892+00	1	2026-11-22 20:57:38.954361+00	2026-11-22 20:59:38.954361+00	2026-11-22 20:57:38.965216+00	\N	\N	
01a2050c-e316-76e9-8b9d-85c6f92f3d47	01a2050c-e2fe-71b6-b354-8a8ba7c69166	verify_email	disabled@example.com	127.0.0.1	\\xb0534c5f1f583defc1f73a312a3f6e74478834d4fbc6ba27420e52cee490e00e	2f06e1a20c5a	1	\N	2026-11-22 20:57:40.375653+00	1	2026-11-22 20:57:40.387493+00	2026-11-22 20:59:40.387494+00	2026-11-22 20:57:40.393377+00	\N	\N	
01a2050c-ea51-7607-b120-8d2a402a49bb	01a2050c-e979-77dc-bb31-66019a5aae79	reset_password	imported@example.com	127.0.0.1	\\x1e8419b328f4d3d63441f3d54a370571b7f2870afd65f160ca6acc5f6e6f04aa	2f06e1a20c5a	1	\N	2026-11-22 20:57:42.22769+00	1	2026-11-22 20:57:42.255911+00	2026-11-22 20:59:42.255912+00	2026-11-22 20:57:42.293476+00	\N	\N	
01a2050c-eba8-7169-af3f-10d653d42f3c	\N	organization_invitation	ben@example.com		\N	2f06e1a20c5a	0	\N	2026-11-22 20:57:42.614516+00	1	2026-11-22 20:57:43.304459+00	2026-11-22 20:59:43.304459+00	2026-11-22 20:57:43.310612+00	\N	ben@example.com	Corner Bakery
01a2050c-ec0a-7674-a367-9bfdb8292423	\N	organization_invitation	invited@example.com		\N	2f06e1a20c5a	0	\N	2026-11-22 20:57:42.683904+00	1	2026-11-22 20:57:43.304533+00	2026-11-22 20:59:43.304533+00	2026-11-22 20:57:43.310938+00	\N	invited@example.com	Corner Bakery
01a2050c-ef71-710b-95a0-97f0d5b1d67f	01a2050c-ef63-71a1-940b-4e9f150ab46a	verify_email	newcomer@example.com	127.0.0.1	\\xe9354ec505bbe24a66a5287647d150fab45fd76f34e6282f88da3fe198ac60e7	2f06e1a20c5a	1	\N	2026-11-22 20:57:43.538678+00	1	2026-11-22 20:57:43.551341+00	2026-11-22 20:59:43.551341+00	2026-11-22 20:57:43.558925+00	\N	\N	
\.

COPY "sessions" ("id", "account_id", "generation", "created_at", "expires_at", "ended_at", "tokens_expire_at", "user_agent", "address", "last_used_at", "end_reason") FROM stdin;
01a2050c-c392-764d-848d-1983fd5ecad6	01a2050c-c17f-7201-a78b-98d2370358d9	0	2026-11-22 20:57:32.316739+00	2026-12-22 20:57:32.316739+00	2026-11-22 20:57:36.024819+00	2026-11-22 21:02:35.30545+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:35.305453+00	password_changed
01a2050c-c699-74dc-90e2-dc695f6b01c1	01a2050c-c4cb-74f4-86b6-b0ee60c67851	0	2026-11-22 20:57:33.082824+00	2026-12-22 20:57:33.082824+00	\N	2026-11-22 21:02:33.082825+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:33.082825+00	\N
01a2050c-c75a-72fd-82a1-5b1f05516049	01a2050c-c17f-7201-a78b-98d2370358d9	0	2026-11-22 20:57:33.27627+00	2026-12-22 20:57:33.27627+00	2026-11-22 20:57:34.703135+00	2026-11-22 21:02:33.453326+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:33.453326+00	logout
01a2050c-cfc2-725d-bb04-e160862f640e	01a2050c-c17f-7201-a78b-98d2370358d9	0	2026-11-22 20:57:35.427658+00	2026-12-22 20:57:35.427658+00	2026-11-22 20:57:35.48489+00	2026-11-22 21:02:35.427659+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:35.427659+00	ended_by_user
01a2050c-d219-7012-9bd3-3f139edf6fee	01a2050c-c17f-7201-a78b-98d2370358d9	1	2026-11-22 20:57:36.025728+00	2026-12-22 20:57:36.025728+00	2026-11-22 20:57:36.207299+00	2026-11-22 21:02:36.025729+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:36.02573+00	logout
01a2050c-d794-77df-af91-b3e48a8cb176	01a2050c-d575-7757-b2bf-e3e30d4a2492	0	2026-11-22 20:57:37.437068+00	2026-12-22 20:57:37.437068+00	2026-11-22 20:57:37.764648+00	2026-11-22 21:02:37.437069+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:37.43707+00	email_verified
01a2050c-dc4a-76ef-8698-e7d2d4904488	01a2050c-d575-7757-b2bf-e3e30d4a2492	1	2026-11-22 20:57:38.640644+00	2026-12-22 20:57:38.640644+00	\N	2026-11-22 21:02:38.640645+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:38.640646+00	\N
01a2050c-dea3-753f-9060-fbff29a88863	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	0	2026-11-22 20:57:39.248336+00	2026-12-22 20:57:39.248336+00	2026-11-22 20:57:39.562272+00	2026-11-22 21:02:39.248338+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:39.248338+00	email_verified
01a2050c-e0b2-7576-afdb-84b4da5ecb92	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	1	2026-11-22 20:57:39.772376+00	2026-12-22 20:57:39.772376+00	\N	2026-11-22 21:02:39.772377+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:39.772378+00	\N
01a2050c-e3cc-770b-8d9d-d48cb16b123e	01a2050c-e2fe-71b6-b354-8a8ba7c69166	0	2026-11-22 20:57:40.558654+00	2026-12-22 20:57:40.558654+00	2026-11-22 20:57:40.633274+00	2026-11-22 21:02:40.558655+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:40.558655+00	account_disabled
01a2050c-e58a-7248-aa3a-f6e07f03a124	01a2050c-e508-7528-88c9-dfc92f0de391	0	2026-11-22 20:57:41.002663+00	2026-12-22 20:57:41.002663+00	2026-11-22 20:57:41.474371+00	2026-11-22 21:02:41.002664+00			2026-11-22 20:57:41.002664+00	account_deleted
01a2050c-eff4-74ab-93c8-83d6740c0b0a	01a2050c-ef63-71a1-940b-4e9f150ab46a	0	2026-11-22 20:57:43.669686+00	2026-12-22 20:57:43.669686+00	\N	2026-11-22 21:02:43.669687+00	connect-es/2.2.0	127.0.0.1	2026-11-22 20:57:43.669687+00	\N
\.

COPY "refresh_tokens" ("session_id", "number", "token_hash", "created_at", "used_at", "idempotency_key_hash", "key_id") FROM stdin;
01a2050c-c392-764d-848d-1983fd5ecad6	2	\\xfebd0014fd0d065f798f1804ff2cede2cb844d7ce63c709b78696810f03d0b48	2026-11-22 20:57:35.265887+00	\N	\N	2f06e1a20c5a
01a2050c-c392-764d-848d-1983fd5ecad6	1	\\x2c8d3a7007852013f0161696dadd42caab26a8f772f16646e5e0486c6294b532	2026-11-22 20:57:32.31707+00	2026-11-22 20:57:35.265909+00	\\x7158c085cc8b3b4b86dd7067e1d5b013c4eb7244ae282d239ba6e7ce299f395b	\N
01a2050c-c699-74dc-90e2-dc695f6b01c1	1	\\x5d3c454b8e342d58c8bd2fb883000051ac59fffb476c7c510ec4e5368f5faaf7	2026-11-22 20:57:33.082943+00	\N	\N	\N
01a2050c-c75a-72fd-82a1-5b1f05516049	1	\\x75f40e48583acc2864626ef2f29c39958012536d1edecb03abff5c951f3d6743	2026-11-22 20:57:33.276354+00	2026-11-22 20:57:33.453415+00	\N	\N
01a2050c-c75a-72fd-82a1-5b1f05516049	2	\\x526fda93d95b768f0778b5268a80ad533ef639bbdeaa4588b6d1e09ca5cba12d	2026-11-22 20:57:33.453388+00	\N	\N	2f06e1a20c5a
01a2050c-cfc2-725d-bb04-e160862f640e	1	\\x862564e11a6bd93a5b74c1cf50fd9893c617503db2479f0b00e1cac3779e75e0	2026-11-22 20:57:35.427741+00	\N	\N	\N
01a2050c-d219-7012-9bd3-3f139edf6fee	1	\\x411534b6bec59997ef6ae5ec8d0f85d9d0bc5429cede2b0b2121627c53fc9baf	2026-11-22 20:57:36.025782+00	\N	\N	\N
01a2050c-d794-77df-af91-b3e48a8cb176	1	\\xd8d49f245f8239b54cd931cb404c090bdcd913f11c1fd817421881315df2c22d	2026-11-22 20:57:37.437149+00	\N	\N	\N
01a2050c-dc4a-76ef-8698-e7d2d4904488	1	\\xfe7455390110faadbc8b842480c2f776e235c10dacd3d7a000c1829bea7093ba	2026-11-22 20:57:38.640731+00	\N	\N	\N
01a2050c-dea3-753f-9060-fbff29a88863	1	\\x66fdbb5bd50acb57b9e15eb2d59b851a2c7f3e0c740704cbee30d1e818fd13e2	2026-11-22 20:57:39.248424+00	\N	\N	\N
01a2050c-e0b2-7576-afdb-84b4da5ecb92	1	\\x54f3578f351b9c5156a29cac28b91b6eab98077358a42e33f0d210514d7f4899	2026-11-22 20:57:39.772453+00	\N	\N	\N
01a2050c-e3cc-770b-8d9d-d48cb16b123e	1	\\x92f28ef11f81ef0ea99b92ed57b4d72d905385e7b9a9082b9ad806793cb1544f	2026-11-22 20:57:40.558737+00	\N	\N	\N
01a2050c-e58a-7248-aa3a-f6e07f03a124	1	\\x1d81398dbe4456377af504eedf788c622306837ba606fd067e2c070f6a6cbdb8	2026-11-22 20:57:41.002722+00	\N	\N	\N
01a2050c-eff4-74ab-93c8-83d6740c0b0a	1	\\xe9f616a9c53f3475b6f325322985c1a8517df8eddcd3eda2b9aeed3a7086cbfa	2026-11-22 20:57:43.669762+00	\N	\N	\N
\.

SELECT setval(E'"audit_log_id_seq"', 29, true);

SELECT setval(E'"feed_outbox_id_seq"', 30, true);

SELECT setval(E'"feed_parked_number_seq"', 1, false);
