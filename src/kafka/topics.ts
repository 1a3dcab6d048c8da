/**
 * Which events go to which topics: what backends may read goes to "<service>.events", and to a topic of its own if the service's
 * definition names one. Nothing else leaves by Kafka.
 */

import { eventReaders } from "../feed/readers.ts";
import type { ServiceDefinition } from "../service.ts";

/** Names of topics by the full name of the event; none for an event that backends may not read. */
export type Routes = ReadonlyMap<string, readonly string[]>;

/** The routes of a service's events; undefined if none of them may leave. */
export function routesOf(
  { name, events, topics = [] }: Pick<ServiceDefinition, "name" | "events" | "topics">,
  prefix: string,
): Routes | undefined {
  if (!events) return undefined;
  const own = new Map(topics.map(([{ typeName }, topic]) => [typeName, topic]));
  const routes = [...eventReaders(events)].map(([type, { backends }]) => {
    const names = [`${name}.events`, ...(own.has(type) ? [own.get(type)!] : [])];
    return [type, backends ? names.map((topic) => `${prefix}${topic}`) : []] as const;
  });
  return routes.some(([, names]) => names.length > 0) ? new Map(routes) : undefined;
}

/** All topics that these services publish to, sorted. */
export function topicsOf(definitions: readonly ServiceDefinition[], prefix: string): string[] {
  const names = definitions.flatMap((definition) => [...(routesOf(definition, prefix)?.values() ?? [])].flat());
  return [...new Set(names)].sort();
}
