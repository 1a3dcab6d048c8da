/** What auth does on the events of others. */
import { UserUpdatedSchema } from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { type Follower, on } from "../../feed/follower.ts";
import { storeNames } from "./accounts.ts";

export const followers: Follower[] = [
  // Names may be old: nobody waits for them.
  { source: "user", isAwaited: false, effects: [on(UserUpdatedSchema, storeNames)] },
];
