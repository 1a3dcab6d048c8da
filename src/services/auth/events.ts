/** What auth publishes. An account is a subject, with all of its sessions; ids are as the database writes them. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import {
  AccountDeletedSchema,
  AccountEmailChangedSchema,
  AccountNamesChangedSchema,
  AccountRegisteredSchema,
  SessionEndedSchema,
  SessionStartedSchema,
  SigningKeyRemovedSchema,
} from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";
import type { Account } from "./accounts.ts";

export function accountRegistered(account: Account): OutboxEvent {
  const { id: userId, email, firstName, lastName, locale, stageName } = account;
  const fact = { userId, email, firstName, lastName, locale, stageName, kind: accountKind(account) };
  const createdAt = timestampFromDate(account.createdAt);
  return event(AccountRegisteredSchema, `account/${userId}`, { ...fact, createdAt });
}

/** `userId` as the database writes it. */
export function accountDeleted(userId: string): OutboxEvent {
  return event(AccountDeletedSchema, `account/${userId}`, { userId });
}

/** The kind of an account as the contract has it. */
export function accountKind({ kind }: Account): AccountKind {
  switch (kind) {
    case "user":
      return AccountKind.USER;
    case "artist":
      return AccountKind.ARTIST;
  }
}

/** `email`: the new address. */
export function accountEmailChanged(change: { userId: string; email: string }): OutboxEvent {
  return event(AccountEmailChangedSchema, `account/${change.userId}`, change);
}

export function accountNamesChanged({ userId }: { userId: string }): OutboxEvent {
  return event(AccountNamesChangedSchema, `account/${userId}`, { userId });
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

export function signingKeyRemoved(keyId: string): OutboxEvent {
  return event(SigningKeyRemovedSchema, `key/${keyId}`, { keyId });
}
