/** `concierge token`: prints a token for use in a shell, made at the moment it is asked for. */

import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { AuthService, type LoginResponse } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { signServiceToken } from "../token/service-token.ts";
import { answerOf } from "./answers.ts";
import { readRunningNote } from "./development.ts";
import { endpointAt, transportTo } from "./endpoint.ts";
import type { Host } from "./host.ts";
import { findMethod, keyFor } from "./internal-calls.ts";

export interface TokenSettings {
  folder: string;
  /** Prints the demo account's id instead of a token. */
  userId?: boolean;
  /** Prints a service token for this procedure, "package.Service/Method", instead of an access token. */
  for?: string;
  /** A file of the authorities (PEM) to trust instead of those that this machine trusts. */
  ca?: string;
  /** Who signs it. */
  as: string;
}

export async function token(host: Host, settings: TokenSettings): Promise<void> {
  if (settings.for === undefined) {
    const { userId, accessToken } = await logIn(settings);
    host.print(`${settings.userId ? userId : accessToken}\n`);
    return;
  }
  const { procedure, callee } = findMethod(settings.for);
  if (callee === undefined) {
    throw new StartupError(`${settings.for} is a method of several services: use \`concierge call\``, ExitCode.usage);
  }
  const key = await keyFor(join(settings.folder, "keys"), settings.as, callee);
  host.print(`${signServiceToken(key, procedure, undefined, systemClock)}\n`);
}

async function logIn({ folder, ca }: TokenSettings): Promise<LoginResponse> {
  const { publicUrl, demoAccount } = await readRunningNote(folder);
  const client = createClient(AuthService, transportTo(await endpointAt(publicUrl, ca)));
  return answerOf(publicUrl, client.login(demoAccount));
}
