/** Finds what a signed call of an internal method needs: the method, the service it belongs to, and a key for that pair. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { ServiceKey } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { sideOf } from "../rpc/access.ts";
import { services } from "../services.ts";
import { readServiceKeys } from "../token/key-folder.ts";

export interface FoundMethod {
  method: DescMethod;
  /** "/package.Service/Method" */
  procedure: string;
  /** Name of the service that has it. */
  callee: string;
}

/** Finds "package.Service/Method", with a slash before it or not. */
export function findMethod(name: string): FoundMethod {
  const procedure = `/${name.replace(/^\//, "")}`;
  const known: string[] = [];
  for (const definition of services) {
    for (const desc of definition.services.filter((candidate) => sideOf(candidate) === "internal")) {
      for (const method of desc.methods) {
        const candidate = `/${desc.typeName}/${method.name}`;
        if (candidate === procedure) return { method, procedure, callee: definition.name };
        known.push(candidate.slice(1));
      }
    }
  }
  const list = known.map((candidate) => `  ${candidate}`).join("\n");
  throw new StartupError(`there is no internal method ${procedure.slice(1)}; there are\n${list}`, ExitCode.usage);
}

/** The newest key of a party for calls to a service. */
export async function keyFor(keysFolder: string, party: string, callee: string): Promise<ServiceKey> {
  const keys = await readServiceKeys(keysFolder, party);
  const key = keys.find((candidate) => candidate.caller === party && candidate.callee === callee);
  if (key) return key;
  throw new StartupError(`${keysFolder} holds no key with which ${party} may call ${callee}`, ExitCode.config);
}
