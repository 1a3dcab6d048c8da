/**
 * The catalogue of cases (docs/catalogue.yaml), and where the sources name them. A case is named by its id, such as S-JWT-01 or
 * R-KEY-01, in the name of a test or of a proof's goal.
 */
import { globSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";

export interface Catalogue {
  /** Cases by their group's title: a few words by id. */
  groups: Record<string, Record<string, string>>;
  /** Why a case is not proven, by id. */
  reasons: Record<string, string>;
}

const CATALOGUE_FILE = "docs/catalogue.yaml";
const ID = /\b[RS]-[A-Z0-9]+-\d{2}\b/g;
/** What has names of tests, or of goals; tests of these modules have invented ones. */
const NAMING_FILES = [
  "{src,test,interop,examples}/**/*.test.ts",
  "src/{prove,testing,client/guards}/*.ts",
  "conformance/run.ts",
];

const schema: z.ZodType<Catalogue> = z.strictObject({
  groups: z.record(z.string(), z.record(z.string(), z.string())),
  reasons: z.record(z.string(), z.string()),
});

export function readCatalogue(): Catalogue {
  return schema.parse(parse(readFileSync(CATALOGUE_FILE, "utf8")));
}

/** Ids of all cases, in the catalogue's order. */
export function casesOf({ groups }: Catalogue): string[] {
  return Object.values(groups).flatMap((cases) => Object.keys(cases));
}

/** Each id once. */
export function idsIn(text: string): string[] {
  return [...new Set(text.match(ID))];
}

/** Which files name each id. That a file names one does not say that anything passed. */
export function filesByCase(): Map<string, string[]> {
  const files = new Map<string, string[]>();
  for (const file of globSync(NAMING_FILES, { exclude: ["**/node_modules/**", "src/prove/*.test.ts"] }).sort()) {
    for (const id of idsIn(readFileSync(file, "utf8"))) files.set(id, [...(files.get(id) ?? []), file]);
  }
  return files;
}
