/** What user does on the events of others. */

import { timestampDate } from "@bufbuild/protobuf/wkt";
import { AccountEmailChangedSchema, AccountRegisteredSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { storeEmail, storeProfile } from "./profiles.ts";

export const followers: Follower[] = [
  {
    source: "auth",
    effects: [
      on(
        AccountRegisteredSchema,
        async (tx, { userId, email, firstName, lastName, locale, createdAt: made }, event) => {
          const createdAt = made ? timestampDate(made) : event.createdAt;
          const { events } = await storeProfile(tx, { userId, email, firstName, lastName, locale, createdAt });
          return events;
        },
      ),
      on(AccountEmailChangedSchema, (tx, { userId, email }) => storeEmail(tx, userId, email)),
    ],
  },
];
