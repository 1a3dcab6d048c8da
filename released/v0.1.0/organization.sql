-- The database of organization in release 0.1.0, with a life made up for it. Never edited.

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

-- organization/0000_init.sql

CREATE TABLE "branches" (
	"id" uuid PRIMARY KEY NOT NULL,
	"organization_id" uuid NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"closed_at" timestamp with time zone
);

ALTER TABLE "branches" ENABLE ROW LEVEL SECURITY;

CREATE TABLE "deleted_accounts" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"deleted_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

CREATE TABLE "invitations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"organization_id" uuid NOT NULL,
	"email" text NOT NULL,
	"email_key" text NOT NULL,
	"role" text NOT NULL,
	"invited_by" uuid NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone
);

ALTER TABLE "invitations" ENABLE ROW LEVEL SECURITY;

CREATE TABLE "memberships" (
	"id" uuid DEFAULT gen_random_uuid() NOT NULL,
	"organization_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"role" text NOT NULL,
	"since" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "memberships_organization_id_user_id_pk" PRIMARY KEY("organization_id","user_id")
);

ALTER TABLE "memberships" ENABLE ROW LEVEL SECURITY;

CREATE TABLE "organizations" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"slug" text NOT NULL,
	"plan" text DEFAULT 'free' NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"modules_enabled" text[] DEFAULT '{}' NOT NULL,
	"settings" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "organizations_slug" UNIQUE("slug")
);

ALTER TABLE "organizations" ENABLE ROW LEVEL SECURITY;

CREATE TABLE "person_counters" (
	"user_id" uuid NOT NULL,
	"what" text NOT NULL,
	"day" date NOT NULL,
	"count" integer NOT NULL,
	CONSTRAINT "person_counters_user_id_what_day_pk" PRIMARY KEY("user_id","what","day")
);

ALTER TABLE "branches" ADD CONSTRAINT "branches_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;

ALTER TABLE "invitations" ADD CONSTRAINT "invitations_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;

ALTER TABLE "memberships" ADD CONSTRAINT "memberships_organization_id_organizations_id_fk" FOREIGN KEY ("organization_id") REFERENCES "public"."organizations"("id") ON DELETE no action ON UPDATE no action;

CREATE UNIQUE INDEX "branches_open" ON "branches" USING btree ("organization_id","name") WHERE closed_at is null;

CREATE INDEX "branches_in_order" ON "branches" USING btree ("organization_id","name","id");

CREATE UNIQUE INDEX "invitations_open" ON "invitations" USING btree ("organization_id","email_key") WHERE ended_at is null;

CREATE INDEX "invitations_of_address" ON "invitations" USING btree ("email_key","id") WHERE ended_at is null;

CREATE INDEX "invitations_in_order" ON "invitations" USING btree ("organization_id","id");

CREATE INDEX "invitations_made" ON "invitations" USING btree ("created_at");

CREATE INDEX "memberships_in_order" ON "memberships" USING btree ("organization_id","since","user_id");

CREATE INDEX "memberships_of_user" ON "memberships" USING btree ("user_id","since","organization_id");

CREATE INDEX "person_counters_by_day" ON "person_counters" USING btree ("day");

CREATE POLICY "tenant" ON "branches" AS PERMISSIVE FOR ALL TO public USING ("branches"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);

CREATE POLICY "tenant" ON "invitations" AS PERMISSIVE FOR ALL TO public USING ("invitations"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);

CREATE POLICY "addressee" ON "invitations" AS PERMISSIVE FOR SELECT TO public USING ("invitations"."email_key" = (select nullif(current_setting('concierge.email_key', true), '')));

CREATE POLICY "tenant" ON "memberships" AS PERMISSIVE FOR ALL TO public USING ("memberships"."organization_id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);

CREATE POLICY "person" ON "memberships" AS PERMISSIVE FOR SELECT TO public USING ("memberships"."user_id" = (select nullif(current_setting('concierge.person', true), ''))::uuid);

CREATE POLICY "tenant" ON "organizations" AS PERMISSIVE FOR ALL TO public USING ("organizations"."id" = (select nullif(current_setting('concierge.organization', true), ''))::uuid);

CREATE POLICY "person" ON "organizations" AS PERMISSIVE FOR SELECT TO public USING ("organizations"."id" in (select organization_id from memberships where user_id = (select nullif(current_setting('concierge.person', true), ''))::uuid));

CREATE POLICY "addressee" ON "organizations" AS PERMISSIVE FOR SELECT TO public USING ("organizations"."id" in (select organization_id from invitations where email_key = (select nullif(current_setting('concierge.email_key', true), ''))));

-- What the migrations have put in is among the rows.
TRUNCATE "concierge_migration", "deleted_accounts", "feed_cursor", "feed_lease", "feed_outbox", "feed_parked", "feed_state", "feed_subject", "organizations", "person_counters", "spent_token", "branches", "invitations", "memberships";

COPY "concierge_migration" ("series", "name", "checksum", "applied_at", "is_expansion") FROM stdin;
organization	0000_init	3b17128af27bfdaee7209af15d4436caa9dcaf8690615b8bed7029f6ebc40bbd	2026-11-22 20:24:51.839922+00	f
platform	0000_platform	5110a64353697a2da8e01a7bf20c95c595a6eb2c55731f280b56268107c7bde4	2026-11-22 20:24:51.64982+00	f
platform	0001_feed	19b41241a202bea274a8e9755e0c2eb827d27622ddbe9e78681ae50e9e1e47bc	2026-11-22 20:24:51.700558+00	f
platform	0002_feed_floor	c1d233bde95993b71b9e065b2918f5545f512cc0fb9a1a6c7ee3df0c80d36568	2026-11-22 20:24:51.790235+00	f
platform	0003_feed_lease	10fbb1b73836f6d7ea6de23295e7e9706b8fb991731ef7c2890a314df6b8a8cf	2026-11-22 20:24:51.8009+00	f
platform	0004_stamp_one_by_one	90ec5a159cbd490dcad26943798c784d2261c6b2ccc4076732661de45c76f045	2026-11-22 20:24:51.832672+00	f
\.

COPY "deleted_accounts" ("user_id", "deleted_at") FROM stdin;
01a2050c-e508-7528-88c9-dfc92f0de391	2026-11-22 20:57:41.905908+00
\.

COPY "feed_cursor" ("source", "epoch", "position") FROM stdin;
auth	cfc9bd7670a99e0d	28
\.

COPY "feed_lease" ("name", "holder", "until") FROM stdin;
\.

COPY "feed_outbox" ("id", "position", "type", "subject", "version", "payload", "created_at") FROM stdin;
1	1	concierge.organization.v1.OrganizationCreated	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	1	\\x0a600a2430316132303530632d633761642d373531632d386161312d363539373862373462303835120d436f726e65722042616b6572791a1362616b6572792d35306630616461333638616122046672656528013a0c08bdae8dd8061080b793b601	2026-11-22 20:57:33.387571+00
2	2	concierge.organization.v1.MemberChanged	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	2	\\x0a2430316132303530632d633761642d373531632d386161312d363539373862373462303835122430316132303530632d633137662d373230312d613738622d3938643233373033353864391803	2026-11-22 20:57:33.38765+00
3	3	concierge.organization.v1.BranchChanged	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	3	\\x0a5b0a2430316132303530632d633833642d373434352d616338362d626565636564316535616235122430316132303530632d633761642d373531632d386161312d3635393738623734623038351a0b4d61696e207374726565742001	2026-11-22 20:57:33.511073+00
4	4	concierge.organization.v1.OrganizationChanged	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	4	\\x0a600a2430316132303530632d633761642d373531632d386161312d363539373862373462303835120d436f726e65722042616b6572791a1362616b6572792d35306630616461333638616122046672656528023a0c08bdae8dd8061080b793b601	2026-11-22 20:57:34.366336+00
5	5	concierge.organization.v1.OrganizationChanged	organization/01a2050c-c7ad-751c-8aa1-65978b74b085	5	\\x0a600a2430316132303530632d633761642d373531632d386161312d363539373862373462303835120d436f726e65722042616b6572791a1362616b6572792d35306630616461333638616122046672656528013a0c08bdae8dd8061080b793b601	2026-11-22 20:57:34.66025+00
6	6	concierge.organization.v1.OrganizationCreated	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	1	\\x0a5a0a2430316132303530632d656231362d373539642d383833382d326339623339633664343539120d436f726e65722042616b6572791a0d636f726e65722d62616b65727922046672656528013a0c08c6ae8dd80610c0acdddd01	2026-11-22 20:57:42.473256+00
7	7	concierge.organization.v1.MemberChanged	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	2	\\x0a2430316132303530632d656231362d373539642d383833382d326339623339633664343539122430316132303530632d643537352d373735372d623262662d6533653330643461323439321803	2026-11-22 20:57:42.473274+00
8	8	concierge.organization.v1.MemberInvited	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	3	\\x0a2430316132303530632d656261382d373136392d616633662d313064363533643432663363122430316132303530632d656231362d373539642d383833382d3263396233396336643435391a0d436f726e65722042616b657279220f62656e406578616d706c652e636f6d	2026-11-22 20:57:42.574961+00
9	9	concierge.organization.v1.MemberChanged	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	4	\\x0a2430316132303530632d656231362d373539642d383833382d326339623339633664343539122430316132303530632d646437662d373363632d386564332d6362616435623133663431361801	2026-11-22 20:57:42.635025+00
10	10	concierge.organization.v1.MemberInvited	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	5	\\x0a2430316132303530632d656330612d373637342d613336372d396266646238323932343233122430316132303530632d656231362d373539642d383833382d3263396233396336643435391a0d436f726e65722042616b6572792213696e7669746564406578616d706c652e636f6d	2026-11-22 20:57:42.670481+00
11	11	concierge.organization.v1.BranchChanged	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	6	\\x0a5b0a2430316132303530632d656332372d373433612d613464382d313463316265353238646331122430316132303530632d656231362d373539642d383833382d3263396233396336643435391a0b4d61696e207374726565742001	2026-11-22 20:57:42.699591+00
12	12	concierge.organization.v1.OrganizationCreated	organization/01a2050c-ed05-7142-9f11-04fb72cd013e	1	\\x0a5a0a2430316132303530632d656430352d373134322d396631312d303466623732636430313365120d436c6f7365642042616b6572791a0d636c6f7365642d62616b65727922046672656528013a0c08c6ae8dd80610c081e0bf03	2026-11-22 20:57:42.942792+00
13	13	concierge.organization.v1.MemberChanged	organization/01a2050c-ed05-7142-9f11-04fb72cd013e	2	\\x0a2430316132303530632d656430352d373134322d396631312d303466623732636430313365122430316132303530632d643537352d373735372d623262662d6533653330643461323439321803	2026-11-22 20:57:42.942808+00
14	14	concierge.organization.v1.OrganizationChanged	organization/01a2050c-ed05-7142-9f11-04fb72cd013e	3	\\x0a5a0a2430316132303530632d656430352d373134322d396631312d303466623732636430313365120d436c6f7365642042616b6572791a0d636c6f7365642d62616b65727922046672656528023a0c08c6ae8dd80610c081e0bf03	2026-11-22 20:57:42.970495+00
15	\N	concierge.organization.v1.BranchChanged	organization/01a2050c-eb16-759d-8838-2c9b39c6d459	7	\\x0a570a2430316132303530632d663033312d373162362d393366332d323635656463626339363562122430316132303530632d656231362d373539642d383833382d3263396233396336643435391a0753746174696f6e2001	2026-11-22 20:57:43.731293+00
\.

COPY "feed_parked" ("source", "number", "event_id", "type", "subject", "version", "position", "created_at", "payload", "parked_at") FROM stdin;
\.

COPY "feed_state" ("one", "trimmed", "floor", "floor_at", "next_floor", "next_floor_xid", "restores") FROM stdin;
t	0	7	2026-11-22 20:57:42.94637+00	13	1141	0
\.

COPY "feed_subject" ("subject", "version") FROM stdin;
organization/01a2050c-c7ad-751c-8aa1-65978b74b085	5
organization/01a2050c-eb16-759d-8838-2c9b39c6d459	7
organization/01a2050c-ed05-7142-9f11-04fb72cd013e	3
\.

COPY "organizations" ("id", "name", "slug", "plan", "status", "modules_enabled", "settings", "created_at") FROM stdin;
01a2050c-c7ad-751c-8aa1-65978b74b085	Corner Bakery	bakery-50f0ada368aa	free	active	{}	{}	2026-11-22 20:57:33.382065+00
01a2050c-eb16-759d-8838-2c9b39c6d459	Corner Bakery	corner-bakery	free	active	{}	{}	2026-11-22 20:57:42.465763+00
01a2050c-ed05-7142-9f11-04fb72cd013e	Closed Bakery	closed-bakery	free	suspended	{}	{}	2026-11-22 20:57:42.939705+00
\.

COPY "person_counters" ("user_id", "what", "day", "count") FROM stdin;
01a2050c-c17f-7201-a78b-98d2370358d9	organizations	2026-11-22	1
01a2050c-d575-7757-b2bf-e3e30d4a2492	invitations	2026-11-22	2
01a2050c-d575-7757-b2bf-e3e30d4a2492	organizations	2026-11-22	2
\.

COPY "spent_token" ("jti", "expires_at") FROM stdin;
\.

COPY "branches" ("id", "organization_id", "name", "created_at", "closed_at") FROM stdin;
01a2050c-c83d-7445-ac86-beeced1e5ab5	01a2050c-c7ad-751c-8aa1-65978b74b085	Main street	2026-11-22 20:57:33.508429+00	\N
01a2050c-ec27-743a-a4d8-14c1be528dc1	01a2050c-eb16-759d-8838-2c9b39c6d459	Main street	2026-11-22 20:57:42.698626+00	\N
01a2050c-f031-71b6-93f3-265edcbc965b	01a2050c-eb16-759d-8838-2c9b39c6d459	Station	2026-11-22 20:57:43.730605+00	\N
\.

COPY "invitations" ("id", "organization_id", "email", "email_key", "role", "invited_by", "created_at", "expires_at", "ended_at") FROM stdin;
01a2050c-eba8-7169-af3f-10d653d42f3c	01a2050c-eb16-759d-8838-2c9b39c6d459	ben@example.com	ben@example.com	member	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:42.572236+00	2026-11-29 20:57:42.572237+00	2026-11-22 20:57:42.632935+00
01a2050c-ec0a-7674-a367-9bfdb8292423	01a2050c-eb16-759d-8838-2c9b39c6d459	invited@example.com	invited@example.com	member	01a2050c-d575-7757-b2bf-e3e30d4a2492	2026-11-22 20:57:42.669128+00	2026-11-29 20:57:42.669128+00	\N
\.

COPY "memberships" ("id", "organization_id", "user_id", "role", "since") FROM stdin;
136b42b8-3a84-4312-87da-cecd8f53db0e	01a2050c-eb16-759d-8838-2c9b39c6d459	01a2050c-d575-7757-b2bf-e3e30d4a2492	owner	2026-11-22 20:57:42.47008+00
8855fd6b-6d48-4da1-8e8f-92868b77aa62	01a2050c-ed05-7142-9f11-04fb72cd013e	01a2050c-d575-7757-b2bf-e3e30d4a2492	owner	2026-11-22 20:57:42.940177+00
a11e4e30-696c-4a02-b933-c6a79039b450	01a2050c-c7ad-751c-8aa1-65978b74b085	01a2050c-c17f-7201-a78b-98d2370358d9	owner	2026-11-22 20:57:33.383202+00
e6760381-5327-462d-bfb6-d13424377a9d	01a2050c-eb16-759d-8838-2c9b39c6d459	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	member	2026-11-22 20:57:42.634015+00
\.

SELECT setval(E'"feed_outbox_id_seq"', 15, true);

SELECT setval(E'"feed_parked_number_seq"', 1, false);
