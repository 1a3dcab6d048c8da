CREATE TABLE "attempt_buckets" (
	"key" "bytea" PRIMARY KEY NOT NULL,
	"attempt_seconds" double precision NOT NULL,
	"free_at" timestamp with time zone NOT NULL,
	"failures" integer NOT NULL,
	"refusals" integer DEFAULT 0 NOT NULL,
	"expires_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "audit_chain" (
	"position" bigint PRIMARY KEY NOT NULL,
	"audit_id" bigint NOT NULL,
	"hash" "bytea" NOT NULL,
	CONSTRAINT "audit_chain_audit_id" UNIQUE("audit_id")
);
--> statement-breakpoint
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
--> statement-breakpoint
CREATE TABLE "device_tokens" (
	"token_hash" "bytea" PRIMARY KEY NOT NULL,
	"account_id" uuid NOT NULL,
	"created_at" timestamp with time zone DEFAULT concierge_now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
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
--> statement-breakpoint
CREATE TABLE "removed_keys" (
	"key_id" text PRIMARY KEY NOT NULL,
	"removed_at" timestamp with time zone DEFAULT concierge_now() NOT NULL
);
--> statement-breakpoint
DROP INDEX "sessions_account";--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "kind" text DEFAULT 'user' NOT NULL;--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "status" text DEFAULT 'active' NOT NULL;--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "email_verified_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "stage_name" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "refresh_tokens" ADD COLUMN "used_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "refresh_tokens" ADD COLUMN "idempotency_key_hash" "bytea";--> statement-breakpoint
ALTER TABLE "refresh_tokens" ADD COLUMN "key_id" text;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "user_agent" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "address" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "last_used_at" timestamp with time zone DEFAULT concierge_now() NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "end_reason" text;--> statement-breakpoint
ALTER TABLE "device_tokens" ADD CONSTRAINT "device_tokens_account_id_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "mails" ADD CONSTRAINT "mails_account_id_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "attempt_buckets_expired" ON "attempt_buckets" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "audit_log_account" ON "audit_log" USING btree ("account_id","id");--> statement-breakpoint
CREATE INDEX "audit_log_at" ON "audit_log" USING btree ("at");--> statement-breakpoint
CREATE INDEX "device_tokens_account" ON "device_tokens" USING btree ("account_id","created_at");--> statement-breakpoint
CREATE INDEX "device_tokens_expired" ON "device_tokens" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "mails_waiting" ON "mails" USING btree ("next_attempt_at") WHERE "mails"."sent_at" is null and "mails"."given_up_at" is null;--> statement-breakpoint
CREATE INDEX "mails_account" ON "mails" USING btree ("account_id","kind","created_at");--> statement-breakpoint
CREATE INDEX "mails_created" ON "mails" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "sessions_live" ON "sessions" USING btree ("account_id","created_at") WHERE "sessions"."ended_at" is null;--> statement-breakpoint
CREATE INDEX "sessions_newest" ON "sessions" USING btree ("account_id","created_at");--> statement-breakpoint
CREATE INDEX "sessions_expired" ON "sessions" USING btree ("expires_at");--> statement-breakpoint
-- Tables with this comment get no UPDATE and DELETE for the run-time role (src/db/migrate.ts).
COMMENT ON TABLE audit_log IS 'append-only';
--> statement-breakpoint
COMMENT ON TABLE audit_chain IS 'append-only';
--> statement-breakpoint
-- The hash of a row's link: over the hash before it and every column, written in a way that no setting changes.
CREATE FUNCTION audit_link(previous bytea, entry audit_log) RETURNS bytea
  LANGUAGE sql STABLE
  AS $$
    SELECT sha256(previous || convert_to(jsonb_build_array(
      entry.id, (extract(epoch FROM entry.at) * 1000000)::bigint, entry.action, entry.outcome, entry.reason,
      entry.account_id, entry.session_id, entry.actor, entry.address, entry.user_agent, entry.request_id)::text, 'UTF8'))
  $$;
--> statement-breakpoint
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
--> statement-breakpoint
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
