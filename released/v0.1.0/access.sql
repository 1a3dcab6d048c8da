-- The database of access in release 0.1.0, with a life made up for it. Never edited.

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

-- access/0000_init.sql

CREATE TABLE "role_assignments" (
	"user_id" uuid NOT NULL,
	"role" text NOT NULL,
	"assigned_by" text NOT NULL,
	"assigned_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "role_assignments_user_id_role_pk" PRIMARY KEY("user_id","role")
);

CREATE TABLE "roles" (
	"name" text PRIMARY KEY NOT NULL,
	"description" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

-- access/0001_known_accounts.sql

CREATE TABLE "known_accounts" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"since" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

-- access/0002_people.sql

CREATE TABLE "first_admin" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"user_id" uuid NOT NULL,
	"made_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "first_admin_only" CHECK ("first_admin"."only")
);

-- Whoever is there already registered when there was one kind.
ALTER TABLE "known_accounts" ADD COLUMN "kind" text DEFAULT 'user' NOT NULL;

ALTER TABLE "known_accounts" ALTER COLUMN "kind" DROP DEFAULT;

ALTER TABLE "known_accounts" ADD COLUMN "deleted_at" timestamp with time zone;

-- access/0003_organizations.sql

CREATE TABLE "admins" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"assigned_by" text NOT NULL,
	"assigned_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

CREATE TABLE "assignments" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"organization_id" uuid,
	"membership_id" uuid,
	"branch_id" uuid,
	"role_id" uuid,
	"permission" text,
	"assigned_by" text NOT NULL,
	"assigned_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "assignments_once" UNIQUE NULLS NOT DISTINCT("organization_id","user_id","membership_id","role_id","permission","branch_id"),
	CONSTRAINT "assignments_of_one" CHECK (num_nonnulls(role_id, permission) = 1),
	CONSTRAINT "assignments_branch" CHECK (branch_id is null or organization_id is not null),
	CONSTRAINT "assignments_membership" CHECK ((membership_id is null) = (organization_id is null))
);

ALTER TABLE "assignments" ENABLE ROW LEVEL SECURITY;

CREATE TABLE "permissions" (
	"name" text PRIMARY KEY NOT NULL,
	"description" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

-- Names that have become those of built-in roles. Who decides by them must not be misled.
UPDATE "roles" SET "name" = 'made-' || "name" WHERE "name" IN ('member', 'owner');

UPDATE "role_assignments" SET "role" = 'made-' || "role" WHERE "role" IN ('member', 'owner');

ALTER TABLE "roles" DROP CONSTRAINT "roles_pkey";

ALTER TABLE "roles" ADD COLUMN "id" uuid DEFAULT gen_random_uuid() PRIMARY KEY NOT NULL;

ALTER TABLE "roles" ALTER COLUMN "id" DROP DEFAULT;

ALTER TABLE "roles" ADD COLUMN "organization_id" uuid;

ALTER TABLE "roles" ADD COLUMN "permissions" text[] DEFAULT '{}' NOT NULL;

ALTER TABLE "roles" ALTER COLUMN "permissions" DROP DEFAULT;

INSERT INTO "admins" SELECT "user_id", "assigned_by", "assigned_at" FROM "role_assignments" WHERE "role" = 'admin';

INSERT INTO "assignments" ("id", "user_id", "role_id", "assigned_by", "assigned_at")
	SELECT gen_random_uuid(), a."user_id", r."id", a."assigned_by", a."assigned_at"
	FROM "role_assignments" a JOIN "roles" r ON r."name" = a."role";

DROP TABLE "role_assignments";

ALTER TABLE "roles" ENABLE ROW LEVEL SECURITY;

ALTER TABLE "assignments" ADD CONSTRAINT "assignments_role_id_roles_id_fk" FOREIGN KEY ("role_id") REFERENCES "public"."roles"("id") ON DELETE cascade ON UPDATE no action;

CREATE INDEX "assignments_in_order" ON "assignments" USING btree ("organization_id","id");

CREATE INDEX "assignments_of_user" ON "assignments" USING btree ("user_id");

CREATE INDEX "assignments_of_role" ON "assignments" USING btree ("role_id");

ALTER TABLE "roles" ADD CONSTRAINT "roles_name" UNIQUE NULLS NOT DISTINCT("organization_id","name");

CREATE POLICY "tenant" ON "roles" AS PERMISSIVE FOR ALL TO public USING ("roles"."organization_id" is not distinct from (select nullif(current_setting('concierge.organization', true), ''))::uuid) WITH CHECK (case when "roles"."organization_id" is null then (select nullif(current_setting('concierge.organization', true), ''))::uuid is null and (select nullif(current_setting('concierge.platform', true), '')) = 'on' else "roles"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid end);

CREATE POLICY "platform" ON "roles" AS PERMISSIVE FOR SELECT TO public USING ("roles"."organization_id" is null);

CREATE POLICY "tenant" ON "assignments" AS PERMISSIVE FOR ALL TO public USING ("assignments"."organization_id" is not distinct from (select nullif(current_setting('concierge.organization', true), ''))::uuid) WITH CHECK (case when "assignments"."organization_id" is null then (select nullif(current_setting('concierge.organization', true), ''))::uuid is null and (select nullif(current_setting('concierge.platform', true), '')) = 'on' else "assignments"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid end);

-- What the migrations have put in is among the rows.
TRUNCATE "admins", "concierge_migration", "feed_cursor", "feed_lease", "feed_outbox", "feed_parked", "feed_state", "feed_subject", "first_admin", "known_accounts", "permissions", "roles", "spent_token", "assignments";

COPY "admins" ("user_id", "assigned_by", "assigned_at") FROM stdin;
01a2050c-d575-7757-b2bf-e3e30d4a2492	operator	2026-11-22 20:57:40.091258+00
\.

COPY "concierge_migration" ("series", "name", "checksum", "applied_at", "is_expansion") FROM stdin;
access	0000_init	fdd16b6f8d1a6267f6aeb4add149a636775b47d0d0c797dfa9aac602ca991a97	2026-11-22 20:24:51.842744+00	f
access	0001_known_accounts	b8e385a7a766f7f3dadacf2207bdf1296eb6bf157516e7e1fdaa6c003a2267d2	2026-11-22 20:24:51.862562+00	f
access	0002_people	b0ec973291b30b411fbe1191ca254a6a5fe042d69826fd44d352330a280c81d1	2026-11-22 20:24:51.871449+00	f
access	0003_organizations	76884d6eeb80e2d63ba8b7a97c09c29a9a2e685e46feba92c4b9b35f31fe2119	2026-11-22 20:24:51.889618+00	f
platform	0000_platform	5110a64353697a2da8e01a7bf20c95c595a6eb2c55731f280b56268107c7bde4	2026-11-22 20:24:51.649073+00	f
platform	0004_stamp_one_by_one	90ec5a159cbd490dcad26943798c784d2261c6b2ccc4076732661de45c76f045	2026-11-22 20:24:51.837903+00	f
platform	0001_feed	19b41241a202bea274a8e9755e0c2eb827d27622ddbe9e78681ae50e9e1e47bc	2026-11-22 20:24:51.695594+00	f
platform	0002_feed_floor	c1d233bde95993b71b9e065b2918f5545f512cc0fb9a1a6c7ee3df0c80d36568	2026-11-22 20:24:51.786556+00	f
platform	0003_feed_lease	10fbb1b73836f6d7ea6de23295e7e9706b8fb991731ef7c2890a314df6b8a8cf	2026-11-22 20:24:51.797219+00	f
\.

COPY "feed_cursor" ("source", "epoch", "position") FROM stdin;
auth	cfc9bd7670a99e0d	28
organization	d0671d38016968d8	14
\.

COPY "feed_lease" ("name", "holder", "until") FROM stdin;
\.

COPY "feed_outbox" ("id", "position", "type", "subject", "version", "payload", "created_at") FROM stdin;
1	1	concierge.access.v1.RoleChanged	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	1	\\x0a0763617368696572122430316132303530632d633761642d373531632d386161312d3635393738623734623038351a0d6272616e636865733a726561642801	2026-11-22 20:57:33.555234+00
2	2	concierge.access.v1.RoleAssigned	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	2	\\x0a2430316132303530632d633137662d373230312d613738622d3938643233373033353864391207636173686965721a2430316132303530632d633761642d373531632d386161312d363539373862373462303835	2026-11-22 20:57:33.902314+00
3	3	concierge.access.v1.RoleAssigned	platform	1	\\x0a2430316132303530632d643537352d373735372d623262662d653365333064346132343932120561646d696e	2026-11-22 20:57:40.097343+00
4	4	concierge.access.v1.RoleUnassigned	platform	2	\\x0a2430316132303530632d653530382d373532382d383863392d646663393266306465333931120475736572	2026-11-22 20:57:41.998202+00
5	5	concierge.access.v1.PermissionCreated	platform	3	\\x0a0b6c65646765723a72656164	2026-11-22 20:57:42.336749+00
6	6	concierge.access.v1.RoleChanged	platform	4	\\x0a0761756469746f721a0b6c65646765723a726561642801	2026-11-22 20:57:42.373363+00
7	7	concierge.access.v1.RoleAssigned	platform	5	\\x0a2430316132303530632d646437662d373363632d386564332d636261643562313366343136120761756469746f72	2026-11-22 20:57:42.412469+00
8	8	concierge.access.v1.RoleChanged	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	1	\\x0a0763617368696572122430316132303530632d656231362d373539642d383833382d3263396233396336643435391a0d6272616e636865733a726561642801	2026-11-22 20:57:42.792669+00
9	9	concierge.access.v1.RoleAssigned	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	2	\\x0a2430316132303530632d646437662d373363632d386564332d6362616435623133663431361207636173686965721a2430316132303530632d656231362d373539642d383833382d326339623339633664343539222430316132303530632d656332372d373433612d613464382d313463316265353238646331	2026-11-22 20:57:42.858863+00
10	10	concierge.access.v1.PermissionGranted	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	3	\\x0a2430316132303530632d646437662d373363632d386564332d636261643562313366343136120f6272616e636865733a7570646174651a2430316132303530632d656231362d373539642d383833382d326339623339633664343539222430316132303530632d656332372d373433612d613464382d313463316265353238646331	2026-11-22 20:57:42.9051+00
11	\N	concierge.access.v1.RoleChanged	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	4	\\x0a0562616b6572122430316132303530632d656231362d373539642d383833382d3263396233396336643435392801	2026-11-22 20:57:43.753975+00
\.

COPY "feed_parked" ("source", "number", "event_id", "type", "subject", "version", "position", "created_at", "payload", "parked_at") FROM stdin;
\.

COPY "feed_state" ("one", "trimmed", "floor", "floor_at", "next_floor", "next_floor_xid", "restores") FROM stdin;
t	0	5	2026-11-22 20:57:42.794122+00	8	1134	0
\.

COPY "feed_subject" ("subject", "version") FROM stdin;
organization/01a2050c-c7ad-751c-8aa1-65978b74b085	2
organization/01a2050c-eb16-759d-8838-2c9b39c6d459	4
platform	5
\.

COPY "first_admin" ("only", "user_id", "made_at") FROM stdin;
t	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:40.056422+00
\.

COPY "known_accounts" ("user_id", "since", "kind", "deleted_at") FROM stdin;
01a2050c-c17f-7201-a78b-98d2370358d9	2026-11-22 20:57:32.140409+00	user	\N
01a2050c-c4cb-74f4-86b6-b0ee60c67851	2026-11-22 20:57:32.741859+00	artist	\N
01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:37.248299+00	user	\N
01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2026-11-22 20:57:39.212832+00	user	\N
01a2050c-e2fe-71b6-b354-8a8ba7c69166	2026-11-22 20:57:40.444554+00	user	\N
01a2050c-e508-7528-88c9-dfc92f0de391	2026-11-22 20:57:40.931537+00	user	2026-11-22 20:57:41.820956+00
01a2050c-e979-77dc-bb31-66019a5aae79	2026-11-22 20:57:42.219471+00	user	\N
\.

COPY "permissions" ("name", "description", "created_at") FROM stdin;
ledger:read	See what was sold	2026-11-22 20:57:42.308125+00
\.

COPY "roles" ("name", "description", "created_at", "id", "organization_id", "permissions") FROM stdin;
auditor	Looks at everything	2026-11-22 20:57:42.372439+00	01a2050c-eae2-7410-8a19-f99522957f59	\N	{ledger:read}
baker		2026-11-22 20:57:43.75178+00	01a2050c-f046-71fe-93bd-47ce522eda73	01a2050c-eb16-759d-8838-2c9b39c6d459	{}
cashier		2026-11-22 20:57:33.550901+00	01a2050c-c86e-708e-ac5a-193fe005f7cf	01a2050c-c7ad-751c-8aa1-65978b74b085	{branches:read}
cashier		2026-11-22 20:57:42.788959+00	01a2050c-ec7e-7679-96a1-2f2dceae9316	01a2050c-eb16-759d-8838-2c9b39c6d459	{branches:read}
\.

COPY "spent_token" ("jti", "expires_at") FROM stdin;
operator/01a2050c-e157-7671-befa-acf15b4a823f	2026-11-22 20:58:14+00
operator/01a2050c-ea8c-7443-a4c8-026ad4e02e7f	2026-11-22 20:58:17+00
operator/01a2050c-eac9-71b3-8e55-8d60b1ca063f	2026-11-22 20:58:17+00
operator/01a2050c-eae7-70a0-957d-1241e844b386	2026-11-22 20:58:17+00
\.

COPY "assignments" ("id", "user_id", "organization_id", "membership_id", "branch_id", "role_id", "permission", "assigned_by", "assigned_at") FROM stdin;
01a2050c-c9c0-76fa-8fd9-b76721943241	01a2050c-c17f-7201-a78b-98d2370358d9	01a2050c-c7ad-751c-8aa1-65978b74b085	a11e4e30-696c-4a02-b933-c6a79039b450	\N	01a2050c-c86e-708e-ac5a-193fe005f7cf	\N	01a2050c-c17f-7201-a78b-98d2370358d9	2026-11-22 20:57:33.891145+00
01a2050c-eb06-761a-8667-c5ccf8c39b48	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	\N	\N	\N	01a2050c-eae2-7410-8a19-f99522957f59	\N	operator	2026-11-22 20:57:42.408277+00
01a2050c-ecc5-779b-acd6-606746322b0b	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	01a2050c-eb16-759d-8838-2c9b39c6d459	e6760381-5327-462d-bfb6-d13424377a9d	01a2050c-ec27-743a-a4d8-14c1be528dc1	01a2050c-ec7e-7679-96a1-2f2dceae9316	\N	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:42.854032+00
01a2050c-ecf2-734a-9009-4b893a95fc67	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	01a2050c-eb16-759d-8838-2c9b39c6d459	e6760381-5327-462d-bfb6-d13424377a9d	01a2050c-ec27-743a-a4d8-14c1be528dc1	\N	branches:update	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:42.899594+00
\.

SELECT setval(E'"feed_outbox_id_seq"', 11, true);

SELECT setval(E'"feed_parked_number_seq"', 1, false);
