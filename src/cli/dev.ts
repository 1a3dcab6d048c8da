/** `concierge dev`: every service in this process over a real PostgreSQL, with what one needs to try them. */

import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { ExitCode, reasonOf, StartupError } from "../errors.ts";
import { createLogger } from "../log.ts";
import { startServer } from "../server.ts";
import { services } from "../services.ts";
import { configurationOf, migrationsFolder } from "./configuration.ts";
import { leaveRunningNote, openDevelopment, type RunningNote } from "./development.ts";
import { aborted, type Host } from "./host.ts";

export async function dev(host: Host, folder: string): Promise<void> {
  const mode = host.env.CONCIERGE_MODE ?? "development";
  if (mode !== "development") {
    throw new StartupError("`concierge dev` runs in development mode only; see `concierge serve`", ExitCode.usage);
  }
  await using environment = await openDevelopment(host, folder);
  const env = { CONCIERGE_MODE: mode, ...environment.variables, ...host.env };
  const configuration = configurationOf(env, services);
  const logFile = join(folder, "concierge.log");
  const destination = pino.destination({ dest: logFile, sync: false });
  const log = createLogger({ level: configuration.platform.logLevel, mode, destination });
  await using server = await startServer({
    ...configuration,
    definitions: services,
    migrationsFolder,
    clock: systemClock,
    log,
  });
  await Promise.race([server.ready, aborted(host.stop)]);
  host.stop.throwIfAborted();
  const { demoAccount } = environment;
  await registerDemoAccount(server.publicUrl, demoAccount);
  const note = { publicUrl: server.publicUrl, internalUrl: server.internalUrl, demoAccount };
  await using _note = await leaveRunningNote(folder, note);
  host.print(welcome(note, folder, logFile));
  await aborted(host.stop);
  host.print("stopping\n");
}

async function registerDemoAccount(publicUrl: string, account: RunningNote["demoAccount"]): Promise<void> {
  const client = createClient(AuthService, createConnectTransport({ baseUrl: publicUrl, httpVersion: "1.1" }));
  try {
    await client.registerUser({ ...account, firstName: "Demo", lastName: "User", locale: "en" });
  } catch (error) {
    if (reasonOf(error) !== "EMAIL_TAKEN") throw error;
  }
}

/** Every line can be pasted as it is, any number of times: a token is made at the moment it is used. */
function welcome({ publicUrl, internalUrl, demoAccount }: RunningNote, folder: string, logFile: string): string {
  const inFolder = folder === ".concierge" ? "" : ` --folder ${folder}`;
  const curl = "npx --no buf curl --http2-prior-knowledge";
  const authorization = `-H "authorization: Bearer $(npx --no concierge token${inFolder})"`;
  const create = "concierge.notification.v1.NotificationInternalService/CreateNotification";
  const serviceToken = `-H "service-token: $(npx --no concierge token --for ${create}${inFolder})"`;
  const login = JSON.stringify(demoAccount);
  const user = `$(npx --no concierge token --user-id${inFolder})`;
  return `
Concierge is running.

  public     ${publicUrl}
  internal   ${internalUrl}
  account    ${demoAccount.email}   password ${demoAccount.password}
  log        ${logFile}

Try it from a second shell:

  # gRPC: log in
  ${curl} --protocol grpc -d '${login}' \\
    ${publicUrl}/concierge.auth.v1.AuthService/Login

  # gRPC-Web: my profile, with my roles
  ${curl} --protocol grpcweb ${authorization} \\
    ${publicUrl}/concierge.user.v1.UserService/GetMe

  # Connect: say hello
  ${curl} --protocol connect ${authorization} -d '{"name":"Ann"}' \\
    ${publicUrl}/concierge.greeter.v1.GreeterService/SayHello

  # from another service: notify the demo account
  ${curl} --protocol grpc ${serviceToken} \\
    -d '{"title":"Hello","text":"It works","userIds":["'"${user}"'"]}' \\
    ${internalUrl}/${create}

Ctrl-C stops it.
`;
}
