/** What auth publishes. One account and one session are a subject each; ids are as the database writes them. */
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
}): OutboxEvent {
  return event(AccountRegisteredSchema, `account/${account.userId}`, account);
}

export function sessionStarted(session: { sessionId: string; userId: string }): OutboxEvent {
  return event(SessionStartedSchema, `session/${session.sessionId}`, session);
}

export function sessionEnded(session: { sessionId: string; userId: string }): OutboxEvent {
  return event(SessionEndedSchema, `session/${session.sessionId}`, session);
}
