/** What people can be answered. The table below is the review: a field that is added to an answer shows up here, and needs a reason. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DescMessage } from "@bufbuild/protobuf";
import { services } from "../services.ts";

/** Where to go on, and what a change is known by: they tell nothing (S-TEN-04). */
const PLAIN = new Set(["next_page_token", "consistency_token"]);

/** Every message in the answers of public methods that says something itself, with these fields. */
function answers(): Record<string, string> {
  const found = new Map<string, DescMessage>();
  const add = (message: DescMessage) => {
    if (found.has(message.typeName) || !message.typeName.startsWith("concierge.")) return;
    found.set(message.typeName, message);
    for (const field of message.fields) if (field.message) add(field.message);
  };
  const isPublic = ({ typeName }: { typeName: string }) => !typeName.endsWith("InternalService");
  for (const desc of services.flatMap((definition) => definition.services).filter(isPublic)) {
    for (const method of desc.methods) add(method.output);
  }
  const told = [...found.values()].map(({ typeName, fields }): [string, string] => {
    const own = fields.filter(({ message, name }) => !message?.typeName.startsWith("concierge.") && !PLAIN.has(name));
    return [typeName.slice("concierge.".length), own.map(({ name }) => name).join(" ")];
  });
  return Object.fromEntries(told.filter(([, fields]) => fields !== "").sort());
}

const TOLD: Record<string, string> = {
  "access.v1.AccessServiceExplainPermissionResponse": "allowed denial",
  "access.v1.Assignment": "user_id role permission branch_id assigned_by assigned_at",
  "access.v1.BranchRights": "branch_id permissions",
  "access.v1.GetMyPermissionsResponse": "organization_id",
  "access.v1.GetMyRolesResponse": "roles",
  "access.v1.Permission": "name description",
  "access.v1.PermissionSource": "role built_in branch_id assigned_by assigned_at",
  "access.v1.Rights": "standing roles permissions",
  "access.v1.Role": "name description built_in permissions organization_id",
  "auth.v1.ChangePasswordResponse":
    "user_id access_token access_token_expires_at refresh_token session_id device_token organization_id",
  "auth.v1.EndOtherSessionsResponse": "ended",
  "auth.v1.ExportMyDataResponse": "document",
  "auth.v1.LoginResponse":
    "user_id access_token access_token_expires_at refresh_token session_id device_token organization_id",
  "auth.v1.RefreshTokenResponse":
    "user_id access_token access_token_expires_at refresh_token session_id organization_id",
  "auth.v1.RegisterArtistResponse": "user_id",
  "auth.v1.RegisterUserResponse": "user_id",
  "auth.v1.SecurityEvent": "at action succeeded reason session_id actor address user_agent",
  "auth.v1.Session": "session_id user_agent address created_at last_used_at expires_at current",
  "greeter.v1.SayHelloBidirectionalResponse": "message",
  "greeter.v1.SayHelloClientStreamResponse": "message",
  "greeter.v1.SayHelloResponse": "message",
  "greeter.v1.SayHelloStreamResponse": "message number",
  "notification.v1.CountUnreadResponse": "count is_more",
  "notification.v1.ExportMyDataResponse": "document",
  "notification.v1.ListMutedTopicsResponse": "topics",
  "notification.v1.MarkReceivedResponse": "received_at",
  "notification.v1.MyDevice": "device_id platform token_end created_at last_seen_at",
  "notification.v1.MyNotification":
    "notification_id title text data created_at received_at read_at organization_id topic priority",
  "notification.v1.RegisterDeviceResponse": "device_id",
  "notification.v1.WatchMyNotificationsResponse": "cursor cancelled_notification_id",
  "organization.v1.Branch": "branch_id organization_id name open",
  "organization.v1.GetMyOrganizationResponse": "settings",
  "organization.v1.Invitation": "invitation_id email role invited_by created_at expires_at",
  "organization.v1.Member": "user_id role since",
  "organization.v1.MyInvitation": "invitation_id organization_id organization_name role expires_at",
  "organization.v1.MyOrganization": "role",
  "organization.v1.Organization": "organization_id name slug plan status modules_enabled created_at",
  "organization.v1.UpdateOrganizationResponse": "settings",
  "user.v1.Artist": "user_id stage_name bio genres links created_at",
  "user.v1.ExportMyDataResponse": "document",
  "user.v1.User": "user_id email first_name last_name roles locale created_at kind",
};

test("S-TEN-08 people are told these fields, and no others", () => {
  assert.deepEqual(answers(), TOLD);
});
