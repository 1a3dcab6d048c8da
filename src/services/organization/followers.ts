/** What organization does on the events of others. */
import { AccountDeletedSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { removeAccount } from "./accounts.ts";

export const followers: Follower[] = [
  { source: "auth", effects: [on(AccountDeletedSchema, (tx, { userId }) => removeAccount(tx, userId))] },
];
