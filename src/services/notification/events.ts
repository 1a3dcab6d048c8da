/**
 * What notification publishes. Everything about one notification has one subject. Ids are as the database writes them, so
 * one notification is one subject however a request spells the UUID.
 */
import {
  NotificationCreatedSchema,
  NotificationProcessedSchema,
  NotificationReceivedSchema,
} from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";

export function notificationCreated(notificationId: string): OutboxEvent {
  return event(NotificationCreatedSchema, subjectOf(notificationId), { notificationId });
}

export function notificationProcessed(notificationId: string, userIds: string[]): OutboxEvent {
  return event(NotificationProcessedSchema, subjectOf(notificationId), { notificationId, userIds });
}

export function notificationReceived(notificationId: string, userId: string): OutboxEvent {
  return event(NotificationReceivedSchema, subjectOf(notificationId), { notificationId, userId });
}

function subjectOf(notificationId: string): string {
  return `notification/${notificationId}`;
}
