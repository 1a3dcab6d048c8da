/** `concierge audit`: the audit log of auth, listed, and checked against its chain of hashes. */
import { join } from "node:path";
import { toJsonString } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import {
  type AuditEntry,
  AuditEntrySchema,
  AuthInternalService,
  type VerifyAuditLogResponse,
} from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { answerOf } from "./answers.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt } from "./endpoint.ts";
import type { Host } from "./host.ts";
import { keyFor } from "./internal-calls.ts";

interface AuditSettings {
  folder: string;
  /** Folder of key files; the development folder's when not given. */
  keys?: string;
  /** Address of the internal listener; the running development system's when not given. */
  url?: string;
  /** A file of the authorities (PEM) to trust instead of those that this machine trusts. */
  ca?: string;
  /** Who signs. */
  as: string;
}

export interface ListSettings extends AuditSettings {
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
  await withAuth(settings, async (auth, url) => {
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
export async function verifyAudit(host: Host, settings: AuditSettings): Promise<void> {
  await withAuth(settings, async (auth, url) => {
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

async function withAuth(
  settings: AuditSettings,
  work: (auth: Client<typeof AuthInternalService>, url: string) => Promise<void>,
): Promise<void> {
  const { folder } = settings;
  const key = await keyFor(settings.keys ?? join(folder, "keys"), settings.as, "auth");
  const { url, ca } = await endpointAt(settings.url ?? (await readRunningNote(folder)).internalUrl, settings.ca);
  using connection = connectService({ baseUrl: url, ca, key, clock: systemClock });
  await work(connection.client(AuthInternalService), url);
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
