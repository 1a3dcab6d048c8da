/**
 * Hints for names that nobody knows, most often a slip of the hand. A hint never stops or changes anything.
 */
import type { Registry } from "./registry.ts";

/** Names that Kubernetes sets for every service of a namespace unless told not to. */
const serviceLink = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$/;

/** The hint for an unknown variable, with a leading space; empty when there is none. */
export function suggestion(name: string, registry: Registry) {
  const near = nearest(
    name,
    [...registry.values()].map((entry) => ({ text: entry.name, weight: entry.key.length })),
  );
  if (near !== "" || !serviceLink.test(name)) return near;
  return " (set by Kubernetes? use enableServiceLinks: false)";
}

/**
 * " (did you mean X?)" for the candidate that a slip of the hand may have missed: two or three letters away, by how many
 * letters (`weight`) tell the candidates apart.
 */
export function nearest(word: string, candidates: { text: string; weight: number }[]) {
  let best = "";
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const { text, weight } of candidates) {
    const distance = editDistance(word.toLowerCase(), text.toLowerCase());
    if (distance >= bestDistance || distance > (weight < 9 ? 2 : 3)) continue;
    best = text;
    bestDistance = distance;
  }
  return best === "" ? "" : ` (did you mean ${best}?)`;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string) {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substitution, previous[j]! + 1, row[j - 1]! + 1));
    }
    previous = row;
  }
  return previous[b.length]!;
}
