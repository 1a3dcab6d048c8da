/** Finds what a signed call of an internal method needs: the method, the service it belongs to, and a key for that pair. */
import type { DescMethod } from "@bufbuild/protobuf";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import type { ServiceKey } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { sideOf } from "../rpc/access.ts";
import { services } from "../services.ts";
import { readServiceKeys } from "../token/key-folder.ts";

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
