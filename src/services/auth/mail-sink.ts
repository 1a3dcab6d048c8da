/**
 * Where mails go in development when there is no mail server: into memory, to be read on a page of the internal
 * listener.
 */
import type { NodeResponse, RequestHandler } from "../../listener/listener.ts";
import { answerJson } from "../../rpc/json.ts";
import type { Message, SendMail } from "./mailer.ts";

const MOST_KEPT = 100;
const PAGE_HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": "default-src 'none'",
  "cache-control": "no-store",
};

export class MailSink {
  /** The newest first. */
  readonly #messages: Message[] = [];

  readonly send: SendMail = async (message) => {
    this.#messages.unshift(message);
    this.#messages.splice(MOST_KEPT);
  };

  /** Pages that show them. */
  readonly pages: Record<string, RequestHandler> = {
    "/dev/mails": (_, response) => answerPage(response, this.#messages),
    "/dev/mails.json": (_, response) =>
      answerJson(response, 200, { mails: this.#messages }, { "cache-control": "no-store" }),
  };
}

function answerPage(response: NodeResponse, messages: Message[]): void {
  const items = messages.map(({ to, subject, text }) => {
    return `<h2>${escaped(subject)}</h2><p>To ${escaped(to)}</p><pre>${linked(escaped(text))}</pre>`;
  });
  const body = items.length === 0 ? "<p>None yet.</p>" : items.join("\n");
  for (const [name, value] of Object.entries(PAGE_HEADERS)) response.setHeader(name, value);
  response.end(`<!doctype html><title>Mails</title><h1>Mails</h1>\n${body}\n`);
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Works on text that is escaped already. */
function linked(text: string): string {
  return text.replace(/^https?:\S+$/gm, (url) => `<a href="${url}">${url}</a>`);
}
