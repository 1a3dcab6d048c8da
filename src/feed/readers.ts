/**
 * Who may read which event: what the option `concierge.options.v1.readers` of each event says. A service with an event that does
 * not say it is not started, so nothing is published to whoever asks by accident.
 */
import { type DescFile, getOption, hasOption } from "@bufbuild/protobuf";
import { type Readers, readers } from "../../gen/concierge/options/v1/readers_pb.ts";
import type { ServiceKey } from "../config.ts";
import { Code, fail, StartupError } from "../errors.ts";

/** The events of one service, with their readers. */
export type EventReaders = ReadonlyMap<string, Readers>;

/** Reads the options of an events file. Throws a StartupError for an event without one. */
export function eventReaders(events: DescFile): EventReaders {
  const found = events.messages.map((message) => {
    if (!hasOption(message, readers)) {
      throw new StartupError(`${message.typeName} does not say who may read it (option concierge.options.v1.readers)`);
    }
    return [message.typeName, getOption(message, readers)] as const;
  });
  return new Map(found);
}

/** The services that read some event of this file, by name. */
export function readingServices(events: DescFile): string[] {
  const names = [...eventReaders(events).values()].flatMap(({ services }) => services);
  return [...new Set(names)].sort();
}

/**
 * The events that a caller gets of those it asked for: all that it may read, if it named none. Throws INVALID_ARGUMENT /
 * UNKNOWN_EVENT_TYPE and PERMISSION_DENIED / CALLER_NOT_ALLOWED.
 */
export function readableTypes(
  events: EventReaders,
  caller: { kind: ServiceKey["kind"]; name: string },
  asked: readonly string[],
): Set<string> {
  const unknown = asked.find((type) => !events.has(type));
  if (unknown !== undefined) {
    throw fail(Code.InvalidArgument, "UNKNOWN_EVENT_TYPE", "this service publishes no event of one of these names");
  }
  const allowed = new Set([...events].flatMap(([type, option]) => (mayRead(option, caller) ? [type] : [])));
  if (allowed.size === 0 || asked.some((type) => !allowed.has(type))) {
    throw fail(Code.PermissionDenied, "CALLER_NOT_ALLOWED", "this caller may not read these events");
  }
  return asked.length === 0 ? allowed : new Set(asked);
}

function mayRead({ services, backends }: Readers, { kind, name }: { kind: ServiceKey["kind"]; name: string }): boolean {
  switch (kind) {
    case "service":
      return services.includes(name);
    case "backend":
      return backends;
    case "operator":
      return true;
  }
}
