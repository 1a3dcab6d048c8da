/**
 * Imports Drizzle quickly. Node parses the "exports" of a package for every module of it that it resolves, and Drizzle's are 130 kB: a
 * third of the time in which a process starts. Here each name is resolved once, and what Drizzle's modules say of each other is
 * a path as it stands. To be imported before whatever imports Drizzle.
 */
import { type ResolveFnOutput, registerHooks } from "node:module";

const PACKAGE = "drizzle-orm";
/** Other packages may have a Drizzle of their own. */
const OWN_FOLDER = new URL(".", import.meta.url).href;

const resolved = new Map<string, ResolveFnOutput>();
/** Where the package is, once it was resolved. */
let packageFolder: string | undefined;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const { parentURL = "", conditions } = context;
    if (!conditions.includes("import")) return nextResolve(specifier, context);
    if (packageFolder !== undefined && parentURL.startsWith(packageFolder) && /^\.\.?\/.*\.js$/.test(specifier)) {
      return { url: new URL(specifier, parentURL).href, format: "module", shortCircuit: true };
    }
    const isOurs = parentURL.startsWith(OWN_FOLDER) && (specifier === PACKAGE || specifier.startsWith(`${PACKAGE}/`));
    return isOurs ? resolveOnce(specifier, () => nextResolve(specifier, context)) : nextResolve(specifier, context);
  },
});

function resolveOnce(specifier: string, resolve: () => ResolveFnOutput): ResolveFnOutput {
  const known = resolved.get(specifier);
  if (known) return known;
  const { url, format } = resolve();
  const found = { url, format, shortCircuit: true };
  resolved.set(specifier, found);
  const folder = `/${PACKAGE}/`;
  if (format === "module") packageFolder ??= url.slice(0, url.lastIndexOf(folder) + folder.length);
  return found;
}
