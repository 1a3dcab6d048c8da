/** What user does on the events of others. */

import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  AccountDeletedSchema,
  AccountEmailChangedSchema,
  AccountRegisteredSchema,
} from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { deleteProfile, storeEmail, storeProfile } from "./profiles.ts";

export const followers: Follower[] = [
  {
    source: "auth",
    effects: [
      on(AccountRegisteredSchema, async (tx, account, event) => {
        const createdAt = account.createdAt ? timestampDate(account.createdAt) : event.createdAt;
        const { events } = await storeProfile(tx, { ...account, createdAt });
        return events;
      }),
      on(AccountDeletedSchema, (tx, { userId }) => deleteProfile(tx, userId)),
      on(AccountEmailChangedSchema, (tx, { userId, email }) => storeEmail(tx, userId, email)),
    ],
  },
];
