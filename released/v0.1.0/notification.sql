-- The database of notification in release 0.1.0, with a life made up for it. Never edited.

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

-- notification/0000_init.sql

CREATE TABLE "devices" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"token" text NOT NULL,
	"token_hash" text NOT NULL,
	"platform" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"last_seen_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "devices_token_hash" UNIQUE("token_hash")
);

CREATE TABLE "notifications" (
	"id" uuid PRIMARY KEY NOT NULL,
	"title" text NOT NULL,
	"text" text NOT NULL,
	"data" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

CREATE TABLE "recipients" (
	"notification_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"processed_at" timestamp with time zone,
	"outcome" text,
	"received_at" timestamp with time zone,
	"lease_owner" text,
	"lease_token" uuid,
	"lease_expires_at" timestamp with time zone,
	CONSTRAINT "recipients_notification_id_user_id_pk" PRIMARY KEY("notification_id","user_id")
);

ALTER TABLE "recipients" ADD CONSTRAINT "recipients_notification_id_notifications_id_fk" FOREIGN KEY ("notification_id") REFERENCES "public"."notifications"("id") ON DELETE no action ON UPDATE no action;

CREATE INDEX "devices_user" ON "devices" USING btree ("user_id");

CREATE INDEX "recipients_unprocessed" ON "recipients" USING btree ("created_at","notification_id","user_id") WHERE processed_at is null;

CREATE INDEX "recipients_inbox" ON "recipients" USING btree ("user_id","notification_id");

-- notification/0001_deleted_accounts.sql

CREATE TABLE "deleted_accounts" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"deleted_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);

-- notification/0002_deliveries.sql

CREATE TABLE "allowances" (
	"name" text PRIMARY KEY NOT NULL,
	"full_at" timestamp with time zone NOT NULL
);

CREATE TABLE "dead_letters" (
	"notification_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"queue" uuid NOT NULL,
	"rank" smallint NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"failed_tries" smallint DEFAULT 0 NOT NULL,
	"code" text NOT NULL,
	"died_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "dead_letters_notification_id_user_id_pk" PRIMARY KEY("notification_id","user_id")
);

CREATE TABLE "deliveries" (
	"notification_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"queue" uuid NOT NULL,
	"rank" smallint NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"failed_tries" smallint DEFAULT 0 NOT NULL,
	"available_at" timestamp with time zone NOT NULL,
	"lease_owner" text,
	"lease_token" uuid,
	"claims" smallint DEFAULT 0 NOT NULL,
	CONSTRAINT "deliveries_notification_id_user_id_pk" PRIMARY KEY("notification_id","user_id")
);

CREATE TABLE "muted_topics" (
	"user_id" uuid NOT NULL,
	"topic" text NOT NULL,
	"muted_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	CONSTRAINT "muted_topics_user_id_topic_pk" PRIMARY KEY("user_id","topic")
);

DROP INDEX "recipients_unprocessed";

ALTER TABLE "notifications" ADD COLUMN "organization_id" uuid;

ALTER TABLE "notifications" ADD COLUMN "topic" text DEFAULT '' NOT NULL;

ALTER TABLE "notifications" ADD COLUMN "priority" text DEFAULT 'normal' NOT NULL;

ALTER TABLE "notifications" ADD COLUMN "expires_at" timestamp with time zone;

UPDATE "notifications" SET "expires_at" = "created_at" + interval '28 days';

ALTER TABLE "notifications" ALTER COLUMN "expires_at" SET NOT NULL;

ALTER TABLE "notifications" ADD COLUMN "cancelled_at" timestamp with time zone;

ALTER TABLE "notifications" ADD COLUMN "author" text DEFAULT '' NOT NULL;

ALTER TABLE "notifications" ADD COLUMN "idempotency_key" text;

ALTER TABLE "notifications" ADD COLUMN "request_digest" "bytea";

ALTER TABLE "notifications" ADD COLUMN "traceparent" text DEFAULT '' NOT NULL;

ALTER TABLE "recipients" ADD COLUMN "code" text;

ALTER TABLE "recipients" ADD COLUMN "failed_tries" smallint DEFAULT 0 NOT NULL;

ALTER TABLE "recipients" ADD COLUMN "read_at" timestamp with time zone;

CREATE INDEX "dead_letters_died" ON "dead_letters" USING btree ("died_at","notification_id","user_id");

CREATE INDEX "deliveries_queue" ON "deliveries" USING btree ("queue","rank","available_at");

CREATE INDEX "deliveries_oldest" ON "deliveries" USING btree ("created_at","notification_id","user_id");

CREATE INDEX "deliveries_lease" ON "deliveries" USING btree ("lease_token") WHERE lease_token is not null;

CREATE INDEX "deliveries_suspect" ON "deliveries" USING btree ("available_at") WHERE claims >= 2;

CREATE INDEX "recipients_unread" ON "recipients" USING btree ("user_id","notification_id") WHERE read_at is null;

-- What waits becomes work to do, under the lease that it has. Its authors are not known: all of it shares one queue.
INSERT INTO "deliveries" ("notification_id", "user_id", "queue", "rank", "created_at", "available_at", "lease_owner", "lease_token")
SELECT "notification_id", "user_id", '00000000-0000-0000-0000-000000000000', 1, "created_at",
  coalesce("lease_expires_at", "created_at"), "lease_owner", "lease_token"
FROM "recipients" WHERE "processed_at" IS NULL;

ALTER TABLE "recipients" DROP COLUMN "created_at";

ALTER TABLE "recipients" DROP COLUMN "lease_expires_at";

-- Room beside each row, so that marking it stays on its page and touches no index.
ALTER TABLE "recipients" SET (fillfactor = 80);

ALTER TABLE "notifications" ADD CONSTRAINT "notifications_idempotency_key" UNIQUE("author","idempotency_key");

-- What the migrations have put in is among the rows.
TRUNCATE "allowances", "concierge_migration", "dead_letters", "deleted_accounts", "deliveries", "devices", "feed_cursor", "feed_lease", "feed_outbox", "feed_parked", "feed_state", "feed_subject", "muted_topics", "notifications", "spent_token", "recipients";

COPY "allowances" ("name", "full_at") FROM stdin;
01a2050c-eb16-759d-8838-2c9b39c6d459	2026-11-22 20:57:43.182241+00
operator operator	2026-11-22 20:57:43.765792+00
\.

COPY "concierge_migration" ("series", "name", "checksum", "applied_at", "is_expansion") FROM stdin;
notification	0000_init	d4f08036521a13290099b3dff4921a7ff5d6fc9cd4e944ae115932009f904bda	2026-11-22 20:24:51.882918+00	f
notification	0001_deleted_accounts	b38f832e36442279b234b25b8ec0861ec5f96a216c65f55666b4f6e0fc46df47	2026-11-22 20:24:51.929402+00	f
notification	0002_deliveries	615e94ec7f5702867d655e05d1158b0e1e299e1353bbd5ee0381b5dd6a2c9bb4	2026-11-22 20:24:51.938107+00	f
platform	0003_feed_lease	10fbb1b73836f6d7ea6de23295e7e9706b8fb991731ef7c2890a314df6b8a8cf	2026-11-22 20:24:51.852572+00	f
platform	0000_platform	5110a64353697a2da8e01a7bf20c95c595a6eb2c55731f280b56268107c7bde4	2026-11-22 20:24:51.70942+00	f
platform	0004_stamp_one_by_one	90ec5a159cbd490dcad26943798c784d2261c6b2ccc4076732661de45c76f045	2026-11-22 20:24:51.865178+00	f
platform	0001_feed	19b41241a202bea274a8e9755e0c2eb827d27622ddbe9e78681ae50e9e1e47bc	2026-11-22 20:24:51.753514+00	f
platform	0002_feed_floor	c1d233bde95993b71b9e065b2918f5545f512cc0fb9a1a6c7ee3df0c80d36568	2026-11-22 20:24:51.845429+00	f
\.

COPY "dead_letters" ("notification_id", "user_id", "queue", "rank", "created_at", "failed_tries", "code", "died_at") FROM stdin;
01a2050c-ed60-71f6-89d7-8bdc6f9c3e06	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	01a2050c-eb16-759d-8838-2c9b39c6d459	1	2026-11-22 20:57:43.010083+00	1	messaging/invalid-argument	2026-11-22 20:57:43.058779+00
\.

COPY "deleted_accounts" ("user_id", "deleted_at") FROM stdin;
01a2050c-e508-7528-88c9-dfc92f0de391	2026-11-22 20:57:41.928704+00
\.

COPY "deliveries" ("notification_id", "user_id", "queue", "rank", "created_at", "failed_tries", "available_at", "lease_owner", "lease_token", "claims") FROM stdin;
01a2050c-edf5-76b5-a1b1-527e50abda14	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	01a2050c-eb16-759d-8838-2c9b39c6d459	1	2026-11-22 20:57:43.158569+00	1	2026-11-23 20:57:43.350648+00	\N	418f624d-6002-4a84-8097-bc606ad39d32	0
01a2050c-f054-7554-80fc-8f2fd8af52e6	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	c8017c39-4ffc-584a-9746-22a1734bf977	1	2026-11-22 20:57:43.768499+00	0	2026-11-22 20:57:43.768499+00	\N	\N	0
\.

COPY "devices" ("id", "user_id", "token", "token_hash", "platform", "created_at", "last_seen_at") FROM stdin;
01a2050c-c41e-74bf-9c44-c67a5cd06470	01a2050c-c17f-7201-a78b-98d2370358d9	device-50f0ada368aa	uC53Vtq0-3WzB6qxvdQnWWzOq_C2I6Ud7sgdDLBxb-E	android	2026-11-22 20:57:32.448158+00	2026-11-22 20:57:32.448158+00
01a2050c-edb0-71ed-8b55-ab0dfa082018	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	unavailable-86400-device	3Z5nFEzDXosjlwQgW6PdTsh7GUXwSlKRm7rNtOlXqKU	android	2026-11-22 20:57:43.089185+00	2026-11-22 20:57:43.089185+00
\.

COPY "feed_cursor" ("source", "epoch", "position") FROM stdin;
auth	cfc9bd7670a99e0d	28
\.

COPY "feed_lease" ("name", "holder", "until") FROM stdin;
\.

COPY "feed_outbox" ("id", "position", "type", "subject", "version", "payload", "created_at") FROM stdin;
1	1	concierge.notification.v1.NotificationCreated	notification/01a2050c-cdc6-75bb-a5a7-fca40e58eefa	1	\\x0a2430316132303530632d636463362d373562622d613561372d666361343065353865656661	2026-11-22 20:57:34.97739+00
2	2	concierge.notification.v1.NotificationProcessed	notification/01a2050c-cdc6-75bb-a5a7-fca40e58eefa	2	\\x0a2430316132303530632d636463362d373562622d613561372d666361343065353865656661122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:35.046627+00
3	3	concierge.notification.v1.NotificationReceived	notification/01a2050c-cdc6-75bb-a5a7-fca40e58eefa	3	\\x0a2430316132303530632d636463362d373562622d613561372d666361343065353865656661122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:35.063773+00
4	4	concierge.notification.v1.NotificationRead	notification/01a2050c-cdc6-75bb-a5a7-fca40e58eefa	4	\\x0a2430316132303530632d636463362d373562622d613561372d666361343065353865656661122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:35.092534+00
5	5	concierge.notification.v1.NotificationCreated	notification/01a2050c-ce8c-7044-b087-d3aba2211e98	1	\\x0a2430316132303530632d636538632d373034342d623038372d643361626132323131653938	2026-11-22 20:57:35.120868+00
6	6	concierge.notification.v1.NotificationProcessed	notification/01a2050c-ce8c-7044-b087-d3aba2211e98	2	\\x0a2430316132303530632d636538632d373034342d623038372d643361626132323131653938122430316132303530632d633137662d373230312d613738622d393864323337303335386439	2026-11-22 20:57:35.155628+00
7	7	concierge.notification.v1.NotificationCreated	notification/01a2050c-ed60-71f6-89d7-8bdc6f9c3e06	1	\\x0a2430316132303530632d656436302d373166362d383964372d386264633666396333653036122430316132303530632d656231362d373539642d383833382d326339623339633664343539	2026-11-22 20:57:43.011132+00
8	8	concierge.notification.v1.NotificationProcessed	notification/01a2050c-ed60-71f6-89d7-8bdc6f9c3e06	2	\\x0a2430316132303530632d656436302d373166362d383964372d386264633666396333653036122430316132303530632d646437662d373363632d386564332d636261643562313366343136	2026-11-22 20:57:43.059653+00
9	9	concierge.notification.v1.NotificationCreated	notification/01a2050c-edd3-74e5-ba17-62e717944892	1	\\x0a2430316132303530632d656464332d373465352d626131372d363265373137393434383932122430316132303530632d656231362d373539642d383833382d326339623339633664343539	2026-11-22 20:57:43.126939+00
10	10	concierge.notification.v1.NotificationCancelled	notification/01a2050c-edd3-74e5-ba17-62e717944892	2	\\x0a2430316132303530632d656464332d373465352d626131372d363265373137393434383932122430316132303530632d646437662d373363632d386564332d636261643562313366343136	2026-11-22 20:57:43.141698+00
11	11	concierge.notification.v1.NotificationCreated	notification/01a2050c-edf5-76b5-a1b1-527e50abda14	1	\\x0a2430316132303530632d656466352d373662352d613162312d353237653530616264613134122430316132303530632d656231362d373539642d383833382d326339623339633664343539	2026-11-22 20:57:43.159696+00
12	12	concierge.notification.v1.NotificationCreated	notification/01a2050c-ee0d-73f6-8350-c674da8cd2a1	1	\\x0a2430316132303530632d656530642d373366362d383335302d633637346461386364326131122430316132303530632d656231362d373539642d383833382d326339623339633664343539	2026-11-22 20:57:43.195771+00
13	13	concierge.notification.v1.NotificationProcessed	notification/01a2050c-ee0d-73f6-8350-c674da8cd2a1	2	\\x0a2430316132303530632d656530642d373366362d383335302d633637346461386364326131122430316132303530632d646437662d373363632d386564332d636261643562313366343136	2026-11-22 20:57:43.256115+00
14	\N	concierge.notification.v1.NotificationCreated	notification/01a2050c-f054-7554-80fc-8f2fd8af52e6	1	\\x0a2430316132303530632d663035342d373535342d383066632d386632666438616635326536	2026-11-22 20:57:43.769981+00
\.

COPY "feed_parked" ("source", "number", "event_id", "type", "subject", "version", "position", "created_at", "payload", "parked_at") FROM stdin;
\.

COPY "feed_state" ("one", "trimmed", "floor", "floor_at", "next_floor", "next_floor_xid", "restores") FROM stdin;
t	0	7	2026-11-22 20:57:43.28546+00	13	1181	0
\.

COPY "feed_subject" ("subject", "version") FROM stdin;
notification/01a2050c-cdc6-75bb-a5a7-fca40e58eefa	4
notification/01a2050c-ce8c-7044-b087-d3aba2211e98	2
notification/01a2050c-ed60-71f6-89d7-8bdc6f9c3e06	2
notification/01a2050c-edd3-74e5-ba17-62e717944892	2
notification/01a2050c-edf5-76b5-a1b1-527e50abda14	1
notification/01a2050c-ee0d-73f6-8350-c674da8cd2a1	2
notification/01a2050c-f054-7554-80fc-8f2fd8af52e6	1
\.

COPY "muted_topics" ("user_id", "topic", "muted_at") FROM stdin;
01a2050c-c17f-7201-a78b-98d2370358d9	tables	2026-11-22 20:57:35.10514+00
01a2050c-dd7f-73cc-8ed3-cbad5b13f416	offers	2026-11-22 20:57:43.164727+00
\.

COPY "notifications" ("id", "title", "text", "data", "created_at", "organization_id", "topic", "priority", "expires_at", "cancelled_at", "author", "idempotency_key", "request_digest", "traceparent") FROM stdin;
01a2050c-cdc6-75bb-a5a7-fca40e58eefa	Concierge	Your table is ready (50f0ada368aa)	{}	2026-11-22 20:57:34.957691+00	\N	tables	normal	2026-12-20 20:57:34.957691+00	\N	operator operator	3181afde-7b57-44c5-969d-a290e40b283c	\\x8d8d7fbdb6ea1f45c83e60413c4e8f015926b56a3c9bcb42367d8e62494f84f2	00-f693f0425630829035a88dc7c439b49f-6f3b8f41687a805e-01
01a2050c-ce8c-7044-b087-d3aba2211e98	Concierge	Another table is ready (50f0ada368aa)	{}	2026-11-22 20:57:35.118747+00	\N	tables	normal	2026-12-20 20:57:35.118747+00	\N	operator operator	8c958515-2cf3-4ee2-81e6-f744cc11e997	\\x824a99eff1d354a2ade4cc9d726534fd9898acd8aa05911db9ccfb63c1f0a295	00-5bf89de5d48bc1e416573fbba0b00259-b87f76f7770a3134-01
01a2050c-ed60-71f6-89d7-8bdc6f9c3e06	Bakery	Given up	{}	2026-11-22 20:57:43.010083+00	01a2050c-eb16-759d-8838-2c9b39c6d459		normal	2026-12-20 20:57:43.010083+00	\N	operator operator	2890de62-d5cf-4e4d-a22b-463afb4e9761	\\x214ed285c1d0ea2492066e1035e010d958c4dab9d3cf7323ef2bcf999d5912d3	00-404c339f27fcc4fc2e0dae1932d87d77-0add714f460d496e-01
01a2050c-edd3-74e5-ba17-62e717944892	Bakery	Cancelled	{}	2026-11-22 20:57:43.125884+00	01a2050c-eb16-759d-8838-2c9b39c6d459		normal	2026-12-20 20:57:43.125884+00	2026-11-22 20:57:43.141148+00	operator operator	e06d4eba-88b7-4216-bb15-3da8732b4191	\\x59aa7ea7286b839172a4f6f8a828debcc8f7f57de4d25582ed77215e069f0173	00-b144e30e87dc60a7690b483994e4d606-80ac76f35e418d56-01
01a2050c-edf5-76b5-a1b1-527e50abda14	Bakery	To be tried again	{}	2026-11-22 20:57:43.158569+00	01a2050c-eb16-759d-8838-2c9b39c6d459		normal	2026-12-20 20:57:43.15857+00	\N	operator operator	2772481b-3476-4435-b0fb-986ca3e12d76	\\xe5159bec13f06937836ea8a70c9449e10c3cb19391881636fcdcb240ccfa55c6	00-b9a163e8de05b55e9a0858cbe86392d3-f9fcd5e0dc738483-01
01a2050c-ee0d-73f6-8350-c674da8cd2a1	Bakery	Not pushed	{}	2026-11-22 20:57:43.187649+00	01a2050c-eb16-759d-8838-2c9b39c6d459	offers	normal	2026-12-20 20:57:43.18765+00	\N	operator operator	6b6dcdce-51c4-4e8a-aee7-eff14b898263	\\x0b58a238ef1076a3465f58c8cd5753b6cbfedaf60c4e54af19cd4112046d6c5d	00-9daf04fd0900445642348c6722f08bcc-757c71e8ae1cb1bf-01
01a2050c-f054-7554-80fc-8f2fd8af52e6		Too late	{}	2026-11-22 20:57:43.768499+00	\N		normal	2026-12-20 20:57:43.768499+00	\N	operator operator	429cf7ed-ab0e-4044-8c4d-5bd1b20a6b69	\\x913c5fa25adeae58536fa2cefb04dd66d3508c907a5215b938409fe2d8d69c20	00-8023a1766fcbd752b57a45ff7f6efde1-22dfaeb819f4bcbe-01
\.

COPY "spent_token" ("jti", "expires_at") FROM stdin;
notification-sender/01a2050c-b3fd-7773-89e1-4af8ef881dcb	2026-11-22 20:58:03+00
notification-sender/01a2050c-b3fd-7773-89e1-4ea2f41a8061	2026-11-22 20:58:03+00
notification-sender/01a2050c-bd07-733b-a2a0-f0d779a58488	2026-11-22 20:58:05+00
notification-sender/01a2050c-bd09-722e-9251-623780abdb65	2026-11-22 20:58:05+00
notification-sender/01a2050c-c555-74bd-90c1-dbfdab1bc84c	2026-11-22 20:58:07+00
notification-sender/01a2050c-c556-7434-bf0a-2082bf358ca4	2026-11-22 20:58:07+00
notification-sender/01a2050c-cd7c-70f3-9649-fa040ad34992	2026-11-22 20:58:09+00
notification-sender/01a2050c-cd7f-74b2-982c-2225a5201a62	2026-11-22 20:58:09+00
notification-sender/01a2050c-ce13-7121-96a0-ce5441c5baeb	2026-11-22 20:58:09+00
notification-sender/01a2050c-ce48-7350-aaec-9a34c47b823f	2026-11-22 20:58:10+00
notification-sender/01a2050c-ce9f-7645-befd-de79154a32b8	2026-11-22 20:58:10+00
notification-sender/01a2050c-d5ca-75ed-9a3b-54acf87c1f59	2026-11-22 20:58:11+00
notification-sender/01a2050c-d6b0-751e-9524-db5e2983892d	2026-11-22 20:58:12+00
notification-sender/01a2050c-dea9-7582-a45d-142555a77a9f	2026-11-22 20:58:14+00
notification-sender/01a2050c-deaa-7520-aafb-73a3c73faa74	2026-11-22 20:58:14+00
notification-sender/01a2050c-e6cc-746e-bc53-e61386dac2bb	2026-11-22 20:58:16+00
notification-sender/01a2050c-e6cd-77d7-9d86-3f98f52f4c41	2026-11-22 20:58:16+00
notification-sender/01a2050c-ed6d-70e9-9178-a11c78663de5	2026-11-22 20:58:18+00
notification-sender/01a2050c-ed97-700f-8f58-6b1bb19c3867	2026-11-22 20:58:18+00
notification-sender/01a2050c-eddf-731b-9b97-62a79bb90672	2026-11-22 20:58:18+00
notification-sender/01a2050c-ee12-7644-89c3-d046584d0357	2026-11-22 20:58:18+00
notification-sender/01a2050c-ee32-771e-89e6-8bd8979be8cb	2026-11-22 20:58:18+00
operator/01a2050c-cd3d-74c6-aef5-e3c56c91fd00	2026-11-22 20:58:09+00
operator/01a2050c-ce83-7788-864a-b13d9692d251	2026-11-22 20:58:10+00
operator/01a2050c-ed51-707a-81cd-e277111e04cc	2026-11-22 20:58:17+00
operator/01a2050c-edb3-701e-8c91-b0c1ef603deb	2026-11-22 20:58:18+00
operator/01a2050c-ede6-71f7-99a8-aead2def8275	2026-11-22 20:58:18+00
operator/01a2050c-edfe-74a3-b416-c512acfe2fcc	2026-11-22 20:58:18+00
operator/01a2050c-f04e-72bb-8197-6a0ab69533a5	2026-11-22 20:58:18+00
\.

COPY "recipients" ("notification_id", "user_id", "processed_at", "outcome", "received_at", "lease_owner", "lease_token", "code", "failed_tries", "read_at") FROM stdin;
01a2050c-cdc6-75bb-a5a7-fca40e58eefa	01a2050c-c17f-7201-a78b-98d2370358d9	2026-11-22 20:57:35.044776+00	sent	2026-11-22 20:57:35.062914+00	service notification-sender	dcada4e9-528f-4081-97c9-7a26d0bdbf8e	\N	0	2026-11-22 20:57:35.091731+00
01a2050c-ce8c-7044-b087-d3aba2211e98	01a2050c-c17f-7201-a78b-98d2370358d9	2026-11-22 20:57:35.149281+00	muted	\N	service notification-sender	fb492685-b99d-44c7-97c8-c0c255ba0a99	\N	0	\N
01a2050c-ed60-71f6-89d7-8bdc6f9c3e06	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2026-11-22 20:57:43.058732+00	failed	\N	service notification-sender	7060c6fc-7e03-449f-aad8-2e96493c21e4	messaging/invalid-argument	1	\N
01a2050c-edd3-74e5-ba17-62e717944892	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2026-11-22 20:57:43.140428+00	cancelled	\N	\N	\N	\N	0	\N
01a2050c-edf5-76b5-a1b1-527e50abda14	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	\N	\N	\N	\N	\N	\N	0	\N
01a2050c-ee0d-73f6-8350-c674da8cd2a1	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	2026-11-22 20:57:43.241236+00	muted	\N	service notification-sender	9dd9bb07-5f38-441c-b6ad-375510c40b09	\N	0	\N
01a2050c-f054-7554-80fc-8f2fd8af52e6	01a2050c-dd7f-73cc-8ed3-cbad5b13f416	\N	\N	\N	\N	\N	\N	0	\N
\.

SELECT setval(E'"feed_outbox_id_seq"', 14, true);

SELECT setval(E'"feed_parked_number_seq"', 1, false);
