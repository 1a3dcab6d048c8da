/** `concierge audit`: the audit log of auth, listed, and checked against its chain of hashes. */
import { toJsonString } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type AuditEntry,
  AuditEntrySchema,
  AuthInternalService,
  type VerifyAuditLogResponse,
} from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { answerOf } from "./answers.ts";
import type { Host } from "./host.ts";
import { type CallSettings, withService } from "./internal-calls.ts";

export interface ListSettings extends CallSettings {
  userId?: string;
  action?: string;
  since?: string;
  limit: string;
  json: boolean;
}

const LARGEST_PAGE = 1_000;

/** Prints entries, the newest first, one a line. */
export async function listAudit(host: Host, settings: ListSettings): Promise<void> {
  const limit = Number(settings.limit);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new StartupError("--limit is a whole number", ExitCode.usage);
  const { userId, action } = settings;
  const since = settings.since === undefined ? undefined : timestampFromDate(readTime(settings.since));
  await withService(AuthInternalService, "auth", settings, async (auth, url) => {
    let pageToken = "";
    let left = limit;
    do {
      const query = { userId, action, since, pageSize: Math.min(left, LARGEST_PAGE), pageToken };
      const page = await answerOf(url, auth.listAuditEntries(query, { signal: host.stop }));
      for (const entry of page.entries) {
        host.print(`${settings.json ? toJsonString(AuditEntrySchema, entry) : lineOf(entry)}\n`);
      }
      left -= page.entries.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && left > 0);
  });
}

/** Checks the whole chain. Throws a StartupError when it does not hold. */
export async function verifyAudit(host: Host, settings: CallSettings): Promise<void> {
  await withService(AuthInternalService, "auth", settings, async (auth, url) => {
    let checked = 0;
    let answer: VerifyAuditLogResponse | undefined;
    do {
      const position = answer?.nextPosition ?? 0n;
      answer = await answerOf(url, auth.verifyAuditLog({ position }, { signal: host.stop }));
      checked += answer.checked;
    } while (answer.nextPosition > 0n);
    const { brokenPosition, lastPosition, lastHash, unchained } = answer;
    if (brokenPosition > 0n) throw new StartupError(`the chain is broken at ${brokenPosition}`, ExitCode.failure);
    host.print(`${checked} entries fit their chain, which ends at ${lastPosition} with ${lastHash || "nothing"}\n`);
    if (unchained > 0) throw new StartupError(`${unchained} entries are not in the chain`, ExitCode.failure);
  });
}

function readTime(text: string): Date {
  const time = new Date(text);
  if (!Number.isNaN(time.getTime())) return time;
  throw new StartupError("--since must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z", ExitCode.usage);
}

function lineOf({ at, action, succeeded, reason, userId, actor, address }: AuditEntry): string {
  const result = succeeded ? "success" : "refused";
  const because = reason === "" ? "" : ` (${reason})`;
  const about = userId === "" ? "" : ` about ${userId}`;
  return `${timestampDate(at!).toISOString()} ${action} ${result}${because}${about} by ${actor} from ${address}`;
}
