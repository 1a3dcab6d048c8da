/**
 * The live inbox in development: a page of the public listener, where somebody logs in and sees notifications as they come. It does what
 * any app would do, over the public API, and has no right of its own; in other modes it is not there.
 */
import type { NodeResponse, RequestHandler } from "../../listener/listener.ts";
import { HTML_HEADERS, readPage, SCRIPT_HEADERS } from "../../rpc/pages.ts";

export const INBOX_PATH = "/dev/inbox";

/** What to serve: the page and its script. */
export async function inboxPages(): Promise<Record<string, RequestHandler>> {
  const { html, script } = await readPage(import.meta.url, "inbox-page");
  return {
    [INBOX_PATH]: (_, response) => answer(response, HTML_HEADERS, html),
    [`${INBOX_PATH}.js`]: (_, response) => answer(response, SCRIPT_HEADERS, script),
  };
}

function answer(response: NodeResponse, headers: Record<string, string>, text: string): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.end(text);
}
