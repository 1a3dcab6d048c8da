/** What signed calls of internal methods need: the method, the service it belongs to, a key for that pair, and a client. */
import { join } from "node:path";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { sideOf } from "../rpc/access.ts";
import { services } from "../services.ts";
import { readServiceKeys } from "../token/key-folder.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt } from "./endpoint.ts";

/** Whom a command calls, and as whom. */
export interface CallSettings {
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

export interface FoundMethod {
  method: DescMethod;
  /** "/package.Service/Method" */
  procedure: string;
  /** Name of the service that has it; undefined for a method of every feed: there the message says it, as `service`. */
  callee: string | undefined;
}

/** Finds "package.Service/Method", with a slash before it or not. */
export function findMethod(name: string): FoundMethod {
  const procedure = `/${name.replace(/^\//, "")}`;
  const own = services.flatMap((definition) => {
    return definition.services
      .filter((desc) => sideOf(desc) === "internal")
      .flatMap((desc) => methodsOf(desc, definition.name));
  });
  const known = [...own, ...methodsOf(FeedInternalService, undefined)];
  const found = known.find((candidate) => candidate.procedure === procedure);
  if (found) return found;
  const list = known.map((candidate) => `  ${candidate.procedure.slice(1)}`).join("\n");
  throw new StartupError(`there is no internal method ${procedure.slice(1)}; there are\n${list}`, ExitCode.usage);
}

function methodsOf(desc: DescMethod["parent"], callee: string | undefined): FoundMethod[] {
  return desc.methods.map((method) => ({ method, procedure: `/${desc.typeName}/${method.name}`, callee }));
}

/** The newest key of a party for calls to a service. */
export async function keyFor(keysFolder: string, party: string, callee: string): Promise<ServiceKey> {
  const keys = await readServiceKeys(keysFolder, party);
  const key = keys.find((candidate) => candidate.caller === party && candidate.callee === callee);
  if (key) return key;
  throw new StartupError(`${keysFolder} holds no key with which ${party} may call ${callee}`, ExitCode.config);
}

/** Calls the internal API of one service, for the time of `work`, which also gets the address to name in messages. */
export async function withService<Desc extends DescService>(
  desc: Desc,
  callee: string,
  settings: CallSettings,
  work: (client: Client<Desc>, url: string) => Promise<void>,
): Promise<void> {
  const { folder } = settings;
  const key = await keyFor(settings.keys ?? join(folder, "keys"), settings.as, callee);
  const { url, ca } = await endpointAt(settings.url ?? (await readRunningNote(folder)).internalUrl, settings.ca);
  using connection = connectService({ baseUrl: url, ca, key, clock: systemClock });
  await work(connection.client(desc), url);
}
