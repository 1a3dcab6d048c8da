/** `concierge call`: calls an internal method, signed, and prints the answer as JSON. Commands that are one call do it this way, too. */

import { join } from "node:path";
import { type DescMessage, fromJson, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { answerOf } from "./answers.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt } from "./endpoint.ts";
import type { Host } from "./host.ts";
import { type CallSettings, findMethod, keyFor } from "./internal-calls.ts";

/** A method whose types are known at run time only. */
type UnaryCall = (request: Message, options: CallOptions) => Promise<Message>;

export async function call(host: Host, name: string, message: string, settings: CallSettings): Promise<void> {
  host.print(`${JSON.stringify(await answerTo(host, name, message, settings), null, 2)}\n`);
}

/** Calls "package.Service/Method" with a message in JSON. Throws a StartupError with what the server said, if it refused. */
export async function answerTo(host: Host, name: string, message: string, settings: CallSettings): Promise<JsonValue> {
  const { method, callee } = findMethod(name);
  const request = parseMessage(method.input, message);
  const key = await keyFor(
    settings.keys ?? join(settings.folder, "keys"),
    settings.as,
    callee ?? calleeNamedBy(request),
  );
  const { url, ca } = await endpointAt(
    settings.url ?? (await readRunningNote(settings.folder)).internalUrl,
    settings.ca,
  );
  using connection = connectService({ baseUrl: url, ca, key, clock: systemClock });
  const client = connection.client(method.parent) as unknown as Record<string, UnaryCall>;
  const answer = await answerOf(url, client[method.localName]!(request, { signal: host.stop }));
  return toJson(method.output, answer);
}

/** Whose feed it asks about. */
function calleeNamedBy(request: Message & { service?: unknown }): string {
  if (typeof request.service === "string" && request.service !== "") return request.service;
  throw new StartupError('the message must name the service: {"service":"auth"}', ExitCode.usage);
}

function parseMessage(desc: DescMessage, text: string) {
  try {
    return fromJson(desc, JSON.parse(text) as JsonValue);
  } catch (error) {
    throw new StartupError(`the message does not fit ${desc.typeName}: ${(error as Error).message}`, ExitCode.usage);
  }
}
