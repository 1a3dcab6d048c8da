/** The feeds that a command looks at: which services publish, clients of their feeds, and what a failed call means. */
import { join } from "node:path";
import type { DescMessage } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { services } from "../services.ts";
import { answerOf } from "./answers.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt } from "./endpoint.ts";
import { type CallSettings, keyFor } from "./internal-calls.ts";

export interface FeedsSettings extends CallSettings {
  /** Names of services; all that publish when not given. */
  service?: string[];
}

/** A service that publishes. */
export interface Publisher {
  service: string;
  /** The events that this program knows of it. */
  events: readonly DescMessage[];
}

/** A service's feed, and the address that it is asked at. */
export interface Feed extends Publisher {
  url: string;
  client: Client<typeof FeedInternalService>;
}

/** What the server's load, start or stop may be the reason for. */
const PASSING = new Set([Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded, Code.Aborted, Code.Internal]);

/** The services that publish, or those of these names. Throws a StartupError that lists them for any other name. */
export function publishersOf(names: readonly string[] | undefined): Publisher[] {
  const all = services.flatMap(({ name, events }) => (events ? [{ service: name, events: events.messages }] : []));
  const unknown = names?.find((name) => !all.some(({ service }) => service === name));
  if (unknown !== undefined) {
    const list = all.map(({ service }) => service).join(", ");
    throw new StartupError(`"${unknown}" is no service that publishes events; these do: ${list}`, ExitCode.usage);
  }
  return names ? all.filter(({ service }) => names.includes(service)) : all;
}

/** Clients of these feeds, with a connection each, for the caller to dispose. */
export async function connectFeeds(
  publishers: readonly Publisher[],
  settings: FeedsSettings,
  opened: DisposableStack,
): Promise<Feed[]> {
  const { folder } = settings;
  const { url, ca } = await endpointAt(settings.url ?? (await readRunningNote(folder)).internalUrl, settings.ca);
  const feeds = publishers.map(async (publisher) => {
    const key = await keyFor(settings.keys ?? join(folder, "keys"), settings.as, publisher.service);
    const connection = opened.use(connectService({ baseUrl: url, ca, key, clock: systemClock }));
    return { ...publisher, url, client: connection.client(FeedInternalService) };
  });
  return Promise.all(feeds);
}

/** What to say of a failed call to `url`, and whether the same call may succeed later. Throws what is no error of a call. */
export async function problemOf(url: string, error: unknown): Promise<{ problem: StartupError; isPassing: boolean }> {
  if (!(error instanceof ConnectError)) throw error;
  const problem = await answerOf(url, Promise.reject(error)).catch((said: unknown) => said as StartupError);
  // Nobody answers, or somebody answers that cannot serve us now; a certificate that is not trusted will not be later.
  const isPassing = problem.exitCode === ExitCode.unavailable || (error.isWireError && PASSING.has(error.code));
  return { problem, isPassing };
}
