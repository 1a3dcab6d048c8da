/** `concierge events status`: how each service's feed is, and how far the services that follow others' feeds have come. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Following, GetStatusResponse } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { KAFKA } from "../kafka/relay.ts";
import { connectFeeds, type Feed, type FeedsSettings, problemOf, publishersOf } from "./feeds.ts";
import type { Host } from "./host.ts";
import { table } from "./table.ts";

export interface StatusSettings extends FeedsSettings {
  json: boolean;
}

interface FeedStatus {
  service: string;
  epoch: string;
  head: number;
  trimmed: number;
  pending: number;
}

interface FollowerStatus {
  service: string;
  source: string;
  /** Events that it has not done; null for one that keeps no place, or when the source does not tell its own. */
  behind: number | null;
  /** Since it last heard that it had everything; null when that has not been since its process started. */
  completeSecondsAgo: number | null;
  parked: number;
}

const TIMEOUT_MS = 5_000;

type Asked = { service: string } & ({ status: GetStatusResponse } | { problem: StartupError; isPassing: boolean });

/** Prints the services that answer; then throws a StartupError that names those that do not. */
export async function printFeedStatus(host: Host, settings: StatusSettings): Promise<void> {
  using opened = new DisposableStack();
  const feeds = await connectFeeds(publishersOf(settings.service), settings, opened);
  const asked = await Promise.all(feeds.map((feed) => ask(feed, host.stop)));
  const answers = asked.flatMap((one) => ("status" in one ? [one] : []));
  const problems = asked.flatMap((one) => ("problem" in one ? [one] : []));
  const heads = new Map(answers.map(({ service, status }) => [service, status.head!]));
  const shown = {
    feeds: answers.map(({ service, status }) => feedStatus(service, status)),
    followers: answers.flatMap(({ service, status }) => {
      return status.following.map((following) =>
        followerStatus(service, following, heads.get(following.source === KAFKA ? service : following.source)),
      );
    }),
  };
  const unanswered = problems.map(({ service }) => service);
  if (settings.json) host.print(`${JSON.stringify({ ...shown, unanswered }, null, 2)}\n`);
  else if (answers.length > 0) host.print(tables(shown));
  if (problems.length === 0) return;
  const lines = problems.map(({ service, problem }) => `${service} does not answer: ${problem.message}`);
  const mayPass = problems.every(({ isPassing }) => isPassing);
  throw new StartupError(lines.join("\n"), mayPass ? ExitCode.unavailable : ExitCode.failure);
}

async function ask({ service, client, url }: Feed, signal: AbortSignal): Promise<Asked> {
  try {
    return { service, status: await client.getStatus({ service }, { signal, timeoutMs: TIMEOUT_MS }) };
  } catch (error) {
    return { service, ...(await problemOf(url, error)) };
  }
}

function feedStatus(service: string, { head, trimmedPosition, pending }: GetStatusResponse): FeedStatus {
  const { epoch, position } = head!;
  return {
    service,
    epoch,
    head: Number(position),
    trimmed: Number(trimmedPosition),
    pending: Number(pending),
  };
}

function followerStatus(
  service: string,
  { source, cursor, completeAt, parked }: Following,
  head: GetStatusResponse["head"],
): FollowerStatus {
  const isKnown = cursor && head && cursor.epoch === head.epoch;
  return {
    service,
    source,
    // Asked one after the other: it may have come further than the source was.
    behind: isKnown ? Math.max(0, Number(head.position - cursor.position)) : null,
    completeSecondsAgo: completeAt ? Math.max(0, systemClock.now() - timestampMs(completeAt)) / 1000 : null,
    parked: Number(parked),
  };
}

function tables({ feeds, followers }: { feeds: FeedStatus[]; followers: FollowerStatus[] }): string {
  const feedRows = feeds.map(({ service, head, trimmed, pending }) => [service, head, trimmed, pending]);
  const followerRows = followers.map(({ service, source, behind, completeSecondsAgo, parked }) => {
    const complete = completeSecondsAgo === null ? "never" : `${completeSecondsAgo.toFixed(1)} s ago`;
    return [source === KAFKA ? `${KAFKA} <- ${service}` : `${service} <- ${source}`, behind ?? "-", complete, parked];
  });
  const feedTable = table(["feed", "head", "trimmed", "pending"], feedRows);
  if (followerRows.length === 0) return feedTable;
  return `${feedTable}\n${table(["follower", "behind", "complete", "parked"], followerRows)}`;
}
