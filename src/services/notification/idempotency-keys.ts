/**
 * Idempotency keys: a caller's own name for a call, so that trying it again does not send twice. A key stands for one
 * request as long as its notification is kept; what it stands for is compared by digest.
 */
import { createHash } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { and, eq } from "drizzle-orm";
import {
  type CreateNotificationRequest,
  CreateNotificationRequestSchema,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { type Db, during } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { Created, Draft } from "./notifications.ts";
import { notifications, recipients } from "./schema.ts";

export interface IdempotencyKey {
  key: string;
  /** SHA-256 of the request. */
  digest: Buffer;
}

/** The key of a request, if it has one. */
export function idempotencyKeyOf(request: CreateNotificationRequest): IdempotencyKey | undefined {
  const { idempotencyKey: key, userIds, data } = request;
  if (key === "") return undefined;
  // Encoders write maps in any order, and a set of people has none.
  const sorted = { ...request, userIds: userIds.toSorted(), data: Object.fromEntries(Object.entries(data).sort()) };
  return { key, digest: createHash("sha256").update(toBinary(CreateNotificationRequestSchema, sorted)).digest() };
}

/** What the author has created under this key before. ALREADY_EXISTS / IDEMPOTENCY_KEY_REUSED. */
export async function findCreated(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  { author, idempotencyKey }: Pick<Draft, "author" | "idempotencyKey">,
): Promise<Created | undefined> {
  if (!idempotencyKey) return undefined;
  const { key, digest } = idempotencyKey;
  const scoped = during(db, signal);
  const [found] = await scoped
    .select({ id: notifications.id, digest: notifications.requestDigest })
    .from(notifications)
    .where(and(eq(notifications.author, author), eq(notifications.idempotencyKey, key)));
  if (!found) return undefined;
  if (Buffer.compare(found.digest!, digest) !== 0) {
    throw fail(Code.AlreadyExists, "IDEMPOTENCY_KEY_REUSED", "the idempotency key was used for another request");
  }
  return {
    notificationId: found.id,
    recipients: await scoped.$count(recipients, eq(recipients.notificationId, found.id)),
  };
}
