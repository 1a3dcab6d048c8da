/**
 * What notification publishes. Everything about one notification has one subject. Ids are as the database writes them, so
 * one notification is one subject however a request spells the UUID.
 */
import {
  NotificationCancelledSchema,
  NotificationCreatedSchema,
  NotificationProcessedSchema,
  NotificationReadSchema,
  NotificationReceivedSchema,
} from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";

/** `organizationId` is empty where it comes from none. */
export function notificationCreated(notificationId: string, organizationId: string): OutboxEvent {
  return event(NotificationCreatedSchema, subjectOf(notificationId), { notificationId, organizationId });
}

export function notificationProcessed(notificationId: string, userIds: string[]): OutboxEvent {
  return event(NotificationProcessedSchema, subjectOf(notificationId), { notificationId, userIds });
}

export function notificationCancelled(notificationId: string, userIds: string[]): OutboxEvent {
  return event(NotificationCancelledSchema, subjectOf(notificationId), { notificationId, userIds });
}

export function notificationReceived(notificationId: string, userId: string): OutboxEvent {
  return event(NotificationReceivedSchema, subjectOf(notificationId), { notificationId, userId });
}

export function notificationRead(notificationId: string, userId: string): OutboxEvent {
  return event(NotificationReadSchema, subjectOf(notificationId), { notificationId, userId });
}

function subjectOf(notificationId: string): string {
  return `notification/${notificationId}`;
}
