/** What auth does on the events of others. People log in while those are away. */
import { MemberInvitedSchema } from "../../../gen/concierge/organization/v1/organization_events_pb.ts";
import { UserUpdatedSchema } from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { storeNames } from "./accounts.ts";
import { writeInvitationMail } from "./invitation-mails.ts";
import type { Mailing } from "./mails.ts";

export function followersOf(mailing: Mailing): Follower[] {
  return [
    {
      source: "organization",
      isAwaited: false,
      effects: [
        on(MemberInvitedSchema, (tx, invited, { createdAt }) => writeInvitationMail(tx, mailing, invited, createdAt)),
      ],
    },
    { source: "user", isAwaited: false, effects: [on(UserUpdatedSchema, storeNames)] },
  ];
}
