/** What access does on the events of others. */
import { AccountDeletedSchema, AccountRegisteredSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import {
  MemberRemovedSchema,
  OrganizationChangedSchema,
} from "../../../gen/concierge/organization/v1/organization_events_pb.ts";
import { OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { rememberAccount } from "./accounts.ts";
import { removeAccount, removeMember, removeOrganization } from "./departures.ts";

export const followers: Follower[] = [
  {
    source: "auth",
    effects: [
      on(AccountRegisteredSchema, rememberAccount),
      on(AccountDeletedSchema, (tx, { userId }) => removeAccount(tx, userId)),
    ],
  },
  {
    source: "organization",
    // Rights do not depend on it.
    isAwaited: false,
    effects: [
      on(MemberRemovedSchema, removeMember),
      on(OrganizationChangedSchema, async (tx, { organization }) => {
        if (organization!.status !== OrganizationStatus.DELETED) return [];
        return removeOrganization(tx, organization!.organizationId);
      }),
    ],
  },
];
