-- The database of user in release 0.1.0, with a life made up for it. Never edited.

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

-- user/0000_init.sql

CREATE TABLE "profiles" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"email" text NOT NULL,
	"first_name" text NOT NULL,
	"last_name" text NOT NULL,
	"locale" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"updated_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

-- user/0001_people.sql

CREATE TABLE "artists" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"stage_name" text NOT NULL,
	"bio" text DEFAULT '' NOT NULL,
	"genres" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"links" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"updated_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

-- Whoever is there already registered when there was one kind.
ALTER TABLE "profiles" ADD COLUMN "kind" text DEFAULT 'user' NOT NULL;

ALTER TABLE "profiles" ALTER COLUMN "kind" DROP DEFAULT;

ALTER TABLE "profiles" ADD COLUMN "deleted_at" timestamp with time zone;

ALTER TABLE "artists" ADD CONSTRAINT "artists_user_id_profiles_user_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."profiles"("user_id") ON DELETE cascade ON UPDATE no action;

-- What the migrations have put in is among the rows.
TRUNCATE "concierge_migration", "feed_cursor", "feed_lease", "feed_outbox", "feed_parked", "feed_state", "feed_subject", "profiles", "spent_token", "artists";

COPY "concierge_migration" ("series", "name", "checksum", "applied_at", "is_expansion") FROM stdin;
platform	0000_platform	5110a64353697a2da8e01a7bf20c95c595a6eb2c55731f280b56268107c7bde4	2026-11-22 20:24:51.521051+00	f
platform	0001_feed	19b41241a202bea274a8e9755e0c2eb827d27622ddbe9e78681ae50e9e1e47bc	2026-11-22 20:24:51.608493+00	f
platform	0002_feed_floor	c1d233bde95993b71b9e065b2918f5545f512cc0fb9a1a6c7ee3df0c80d36568	2026-11-22 20:24:51.683007+00	f
platform	0003_feed_lease	10fbb1b73836f6d7ea6de23295e7e9706b8fb991731ef7c2890a314df6b8a8cf	2026-11-22 20:24:51.696632+00	f
platform	0004_stamp_one_by_one	90ec5a159cbd490dcad26943798c784d2261c6b2ccc4076732661de45c76f045	2026-11-22 20:24:51.706592+00	f
user	0000_init	5173d2f2e0ac38c96a1af1eeb208683b935be7fa2799f00b1dba597e319ae070	2026-11-22 20:24:51.709348+00	f
user	0001_people	1732e3238d2dd0746ca5e0bbfb5309aaed83a78c3dd53e9be90e5c2c42aa6591	2026-11-22 20:24:51.733287+00	f
\.

COPY "feed_cursor" ("source", "epoch", "position") FROM stdin;
auth	cfc9bd7670a99e0d	28
\.

COPY "feed_lease" ("name", "holder", "until") FROM stdin;
\.

COPY "feed_outbox" ("id", "position", "type", "subject", "version", "payload", "created_at") FROM stdin;
1	1	concierge.user.v1.UserCreated	user/01a2050c-c17f-7201-a78b-98d2370358d9	1	\\x0a2430316132303530632d633137662d373230312d613738622d39386432333730333538643912206a6f75726e65792d353066306164613336386161406578616d706c652e636f6d1a03416e6e22034c65652a02656e320c08bbae8dd8061080adfdf202	2026-11-22 20:57:32.0707+00
2	2	concierge.user.v1.ArtistCreated	user/01a2050c-c4cb-74f4-86b6-b0ee60c67851	1	\\x0a2430316132303530632d633463622d373466342d383662362d623065653630633637383531121f6172746973742d353066306164613336386161406578616d706c652e636f6d320c08bcae8dd80610808abaab023a174e69676874204f776c7320353066306164613336386161	2026-11-22 20:57:32.806083+00
3	3	concierge.user.v1.ArtistUpdated	user/01a2050c-c4cb-74f4-86b6-b0ee60c67851	2	\\x0a2430316132303530632d633463622d373466342d383662362d62306565363063363738353112174e69676874204f776c732035306630616461333638616122046a617a7a	2026-11-22 20:57:33.106396+00
4	4	concierge.user.v1.UserCreated	user/01a2050c-d575-7757-b2bf-e3e30d4a2492	1	\\x0a2430316132303530632d643537352d373735372d623262662d653365333064346132343932120f616e6e406578616d706c652e636f6d1a03416e6e22034c6565320c08c0ae8dd806108091eab303	2026-11-22 20:57:37.252469+00
5	5	concierge.user.v1.UserCreated	user/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	1	\\x0a2430316132303530632d646437662d373363632d386564332d636261643562313366343136120f62656e406578616d706c652e636f6d1a0342656e22034c6565320c08c2ae8dd80610809891c203	2026-11-22 20:57:39.21741+00
6	6	concierge.user.v1.UserCreated	user/01a2050c-e2fe-71b6-b354-8a8ba7c69166	1	\\x0a2430316132303530632d653266652d373162362d623335342d386138626137633639313636121464697361626c6564406578616d706c652e636f6d1a0844697361626c656422034c6565320c08c4ae8dd80610808ab1b101	2026-11-22 20:57:40.449816+00
7	7	concierge.user.v1.UserCreated	user/01a2050c-e508-7528-88c9-dfc92f0de391	1	\\x0a2430316132303530632d653530382d373532382d383863392d646663393266306465333931121364656c65746564406578616d706c652e636f6d1a0744656c6574656422034c6565320c08c4ae8dd8061080efd4a203	2026-11-22 20:57:40.938272+00
8	8	concierge.user.v1.UserDeleted	user/01a2050c-e508-7528-88c9-dfc92f0de391	2	\\x0a2430316132303530632d653530382d373532382d383863392d646663393266306465333931	2026-11-22 20:57:41.939666+00
9	9	concierge.user.v1.UserCreated	user/01a2050c-e979-77dc-bb31-66019a5aae79	1	\\x0a2430316132303530632d653937392d373764632d626233312d3636303139613561616537391214696d706f72746564406578616d706c652e636f6d320b08c6ae8dd80610c0b8c613	2026-11-22 20:57:42.22373+00
10	\N	concierge.user.v1.UserUpdated	user/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2	\\x0a2430316132303530632d646437662d373363632d386564332d636261643562313366343136120842656e6a616d696e1a034c6565	2026-11-22 20:57:43.706686+00
\.

COPY "feed_parked" ("source", "number", "event_id", "type", "subject", "version", "position", "created_at", "payload", "parked_at") FROM stdin;
\.

COPY "feed_state" ("one", "trimmed", "floor", "floor_at", "next_floor", "next_floor_xid", "restores") FROM stdin;
t	0	8	2026-11-22 20:57:42.234928+00	9	1106	0
\.

COPY "feed_subject" ("subject", "version") FROM stdin;
user/01a2050c-c17f-7201-a78b-98d2370358d9	1
user/01a2050c-c4cb-74f4-86b6-b0ee60c67851	2
user/01a2050c-d575-7757-b2bf-e3e30d4a2492	1
user/01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2
user/01a2050c-e2fe-71b6-b354-8a8ba7c69166	1
user/01a2050c-e508-7528-88c9-dfc92f0de391	2
user/01a2050c-e979-77dc-bb31-66019a5aae79	1
\.

COPY "profiles" ("user_id", "email", "first_name", "last_name", "locale", "created_at", "updated_at", "kind", "deleted_at") FROM stdin;
01a2050c-c17f-7201-a78b-98d2370358d9	journey-50f0ada368aa@example.com	Ann	Lee	en	2026-11-22 20:57:31.778+00	2026-11-22 20:57:32.055676+00	user	\N
01a2050c-c4cb-74f4-86b6-b0ee60c67851	artist-50f0ada368aa@example.com				2026-11-22 20:57:32.628+00	2026-11-22 20:57:32.782646+00	artist	\N
01a2050c-d575-7757-b2bf-e3e30d4a2492	ann@example.com	Ann	Lee		2026-11-22 20:57:36.914+00	2026-11-22 20:57:37.248337+00	user	\N
01a2050c-dd7f-73cc-8ed3-cbad5b13f416	ben@example.com	Benjamin	Lee		2026-11-22 20:57:38.944+00	2026-11-22 20:57:43.706101+00	user	\N
01a2050c-e2fe-71b6-b354-8a8ba7c69166	disabled@example.com	Disabled	Lee		2026-11-22 20:57:40.372+00	2026-11-22 20:57:40.445068+00	user	\N
01a2050c-e508-7528-88c9-dfc92f0de391					2026-11-22 20:57:40.878+00	2026-11-22 20:57:41.902868+00	user	2026-11-22 20:57:41.902868+00
01a2050c-e979-77dc-bb31-66019a5aae79	imported@example.com				2026-11-22 20:57:42.041+00	2026-11-22 20:57:42.219218+00	user	\N
\.

COPY "spent_token" ("jti", "expires_at") FROM stdin;
\.

COPY "artists" ("user_id", "stage_name", "bio", "genres", "links", "updated_at") FROM stdin;
01a2050c-c4cb-74f4-86b6-b0ee60c67851	Night Owls 50f0ada368aa		["jazz"]	[]	2026-11-22 20:57:33.104511+00
\.

SELECT setval(E'"feed_outbox_id_seq"', 10, true);

SELECT setval(E'"feed_parked_number_seq"', 1, false);
