/** What auth publishes. An account is a subject, with all of its sessions; ids are as the database writes them. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  AccountRegisteredSchema,
  SessionEndedSchema,
  SessionStartedSchema,
} from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";

export function accountRegistered(account: {
  userId: string;
  email: string;
  firstName: string;
  lastName: string;
  locale: string;
  createdAt: Date;
}): OutboxEvent {
  const fact = { ...account, createdAt: timestampFromDate(account.createdAt) };
  return event(AccountRegisteredSchema, `account/${account.userId}`, fact);
}

export function sessionStarted(session: { sessionId: string; userId: string }): OutboxEvent {
  return event(SessionStartedSchema, `account/${session.userId}`, session);
}

/** `tokensExpireAt`: when the last access token expires that the session may have got. */
export function sessionEnded(session: { sessionId: string; userId: string; tokensExpireAt: Date }): OutboxEvent {
  const { sessionId, userId, tokensExpireAt } = session;
  return event(SessionEndedSchema, `account/${userId}`, {
    sessionId,
    userId,
    tokensExpireAt: timestampFromDate(tokensExpireAt),
  });
}
