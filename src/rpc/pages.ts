/**
 * Small pages for development: two files beside the module that serves them, `<name>.html` and `<name>.js`. Such a page runs its own
 * script and nothing else, talks to where it comes from, and is shown in nobody's frame.
 */
import { readFile } from "node:fs/promises";

export interface Page {
  html: string;
  script: string;
}

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
];

const COMMON_HEADERS = {
  "content-security-policy": POLICY.join("; "),
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

export const HTML_HEADERS = { ...COMMON_HEADERS, "content-type": "text/html; charset=utf-8" };
export const SCRIPT_HEADERS = { ...COMMON_HEADERS, "content-type": "text/javascript; charset=utf-8" };

/** Reads the page of this name beside a module: its `import.meta.url`. */
export async function readPage(moduleUrl: string, name: string): Promise<Page> {
  const read = (type: string) => readFile(new URL(`${name}.${type}`, moduleUrl), "utf8");
  const [html, script] = await Promise.all([read("html"), read("js")]);
  return { html, script };
}
