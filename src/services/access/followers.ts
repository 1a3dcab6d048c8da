/** What access does on the events of others. */
import { AccountDeletedSchema, AccountRegisteredSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { rememberAccount } from "./accounts.ts";
import { removeAccount } from "./assignments.ts";

export const followers: Follower[] = [
  {
    source: "auth",
    effects: [
      on(AccountRegisteredSchema, rememberAccount),
      on(AccountDeletedSchema, (tx, { userId }) => removeAccount(tx, userId)),
    ],
  },
];
