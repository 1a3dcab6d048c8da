/** `concierge notifications`: what waits to be pushed, what was given up, and another try for that. */
import { toJson, toJsonString } from "@bufbuild/protobuf";
import { timestampDate, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type DeadLetter,
  DeadLetterSchema,
  type GetQueueStatusResponse,
  GetQueueStatusResponseSchema,
  NotificationInternalService,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { answerOf } from "./answers.ts";
import type { Host } from "./host.ts";
import { type CallSettings, withService } from "./internal-calls.ts";
import { table } from "./table.ts";

interface StatusSettings extends CallSettings {
  json: boolean;
}

interface ListSettings extends CallSettings {
  code?: string;
  limit: string;
  json: boolean;
}

interface RedriveSettings extends CallSettings {
  code?: string;
  /** UUID of the notification. */
  notification?: string;
}

const LARGEST_PAGE = 100;
/** A call brings back a thousand recipients. */
const REDRIVE_TIMEOUT_MS = 30_000;

/** Prints how much waits and how much was given up. */
export async function printQueueStatus(host: Host, settings: StatusSettings): Promise<void> {
  await withService(NotificationInternalService, "notification", settings, async (notification, url) => {
    const status = await answerOf(url, notification.getQueueStatus({}, { signal: host.stop }));
    const options = { alwaysEmitImplicit: true };
    const asJson = () => `${JSON.stringify(toJson(GetQueueStatusResponseSchema, status, options), null, 2)}\n`;
    host.print(settings.json ? asJson() : tablesOf(status));
  });
}

function tablesOf({ pending, leased, waitingForRetry, oldestCreatedAt, deadByCode }: GetQueueStatusResponse): string {
  const ageSeconds = oldestCreatedAt && Math.max(0, systemClock.now() - timestampMs(oldestCreatedAt)) / 1000;
  const waiting = table(
    ["to be pushed", "recipients"],
    [
      ["all", pending],
      ["leased by a sender", leased],
      ["waiting for another try", waitingForRetry],
      ["oldest, in seconds", ageSeconds?.toFixed(1) ?? "-"],
    ],
  );
  const codes = Object.entries(deadByCode).sort(([, one], [, other]) => other - one);
  return codes.length === 0 ? waiting : `${waiting}\n${table(["given up for", "recipients"], codes)}`;
}

/** Prints recipients that were given up, one a line, the last one first. */
export async function listDeadLetters(host: Host, settings: ListSettings): Promise<void> {
  const limit = Number(settings.limit);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new StartupError("--limit is a whole number", ExitCode.usage);
  await withService(NotificationInternalService, "notification", settings, async (notification, url) => {
    let pageToken = "";
    let left = limit;
    do {
      const query = { code: settings.code, pageSize: Math.min(left, LARGEST_PAGE), pageToken };
      const page = await answerOf(url, notification.listDeadLetters(query, { signal: host.stop }));
      for (const letter of page.deadLetters) {
        host.print(`${settings.json ? toJsonString(DeadLetterSchema, letter) : lineOf(letter)}\n`);
      }
      left -= page.deadLetters.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && left > 0);
  });
}

function lineOf({ diedAt, notificationId, userId, organizationId, code, failedTries }: DeadLetter): string {
  const from = organizationId === "" ? "" : ` from ${organizationId}`;
  const tries = failedTries === 1 ? "1 failed try" : `${failedTries} failed tries`;
  return `${timestampDate(diedAt!).toISOString()} ${code} after ${tries}: ${notificationId} to ${userId}${from}`;
}

/**
 * Lets them be tried again, in calls of a thousand, and tells how far it is. It ends with as many as the status counted at
 * its beginning: what is given up again meanwhile would keep it going for ever.
 */
export async function redriveDeadLetters(host: Host, settings: RedriveSettings): Promise<void> {
  const { code, notification: notificationId } = settings;
  await withService(NotificationInternalService, "notification", settings, async (notification, url) => {
    const { deadByCode } = await answerOf(url, notification.getQueueStatus({}, { signal: host.stop }));
    const counts = Object.entries(deadByCode).filter(([name]) => code === undefined || name === code);
    const most = counts.reduce((sum, [, count]) => sum + count, 0);
    let redriven = 0;
    while (redriven < most) {
      const call = { signal: host.stop, timeoutMs: REDRIVE_TIMEOUT_MS };
      const answer = await answerOf(url, notification.redriveDeadLetters({ notificationId, code }, call));
      if (answer.redriven === 0) break;
      redriven += answer.redriven;
      host.warn(`concierge: ${redriven} so far\n`);
    }
    host.print(`${redriven} ${redriven === 1 ? "recipient is" : "recipients are"} to be tried again\n`);
  });
}
