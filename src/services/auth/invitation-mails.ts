/**
 * Mails that invite to an organization. They go to an address, whether it has an account or not, and no inbox gets more
 * than a few of them a day, whoever invites and under whatever +tag. A mail has the id of its invitation: so there is one, however often its
 * event is read.
 */
import { sql } from "drizzle-orm";
import type { MemberInvited } from "../../../gen/concierge/organization/v1/organization_events_pb.ts";
import type { Tx } from "../../db/database.ts";
import { inboxKeyOf } from "../../emails.ts";
import type { Mailing } from "./mails.ts";
import { mails } from "./schema.ts";

const MOST_PER_DAY = 3;
/** What is read again after it was lost for long is no news. */
const LIFE = sql`interval '7 days'`;

/** Writes the mail of an invitation that was made at `createdAt`. */
export async function writeInvitationMail(
  tx: Tx,
  { isOn, keys }: Mailing,
  { invitationId, email, organizationName }: MemberInvited,
  createdAt: Date,
): Promise<void> {
  if (!isOn) return;
  const key = inboxKeyOf(email);
  await tx.execute(sql`
    insert into ${mails} (id, kind, recipient, recipient_key, organization_name, address, key_id, credential_version)
    select ${invitationId}, 'organization_invitation', ${email}, ${key}, ${organizationName}, '', ${keys.newest}, 0
    where ${createdAt.toISOString()}::timestamptz > concierge_now() - ${LIFE} and ${MOST_PER_DAY} > (
      select count(*) from ${mails} where recipient_key = ${key} and created_at > concierge_now() - interval '1 day')
    on conflict do nothing`);
}
