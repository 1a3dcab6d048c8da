/** What user publishes. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { UserCreatedSchema, UserDeletedSchema } from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";
import type { Profile } from "./profiles.ts";

export function userCreated({ userId, email, firstName, lastName, locale, createdAt }: Profile): OutboxEvent {
  const fact = { userId, email, firstName, lastName, locale, createdAt: timestampFromDate(createdAt) };
  return event(UserCreatedSchema, `user/${userId}`, fact);
}

/** `userId` as the database writes it. */
export function userDeleted(userId: string): OutboxEvent {
  return event(UserDeletedSchema, `user/${userId}`, { userId });
}
