/** The server of `concierge dev`, with its demo account and the words that greet whoever started it. */
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { systemClock } from "../clock.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import type { Environment } from "../dev/environment.ts";
import { reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { startServer } from "../server.ts";
import { INBOX_PATH } from "../services/notification/inbox-pages.ts";
import { services } from "../services.ts";
import { answerOf } from "./answers.ts";
import { configurationOf } from "./configuration.ts";
import { leaveRunningNote, type RunningNote } from "./development.ts";
import { type Endpoint, endpointAt, transportTo } from "./endpoint.ts";
import { aborted, type Host } from "./host.ts";
import { quoted } from "./quoted.ts";

/** Runs until the host says stop. */
export async function runDevelopment(host: Host, folder: string, environment: Environment): Promise<void> {
  const mode = "development";
  const configuration = configurationOf({ ...environment.variables, ...host.env, CONCIERGE_MODE: mode }, services);
  const logFile = join(folder, "concierge.log");
  const destination = pino.destination({ dest: logFile, sync: false });
  const log = createLogger({ level: configuration.platform.logLevel, mode, destination });
  await using server = await startServer({
    ...configuration,
    definitions: services,
    migrationsFolder: MIGRATIONS_FOLDER,
    clock: systemClock,
    log,
    residentBytes: host.residentBytes,
  });
  const caFile = server.publicUrl.startsWith("https:") ? configuration.platform.peerCaPath : undefined;
  const endpoint = await endpointAt(server.publicUrl, caFile);
  // Services that do not trust their own certificate would wait for each other, and say so in the log only.
  await answerOf(endpoint.url, createClient(Health, transportTo(endpoint)).check({}));
  await Promise.race([server.ready, aborted(host.stop)]);
  host.stop.throwIfAborted();
  const { demoAccount, ledgerFile, pushUrl } = environment;
  await registerDemoAccount(endpoint, demoAccount);
  const note = { publicUrl: server.publicUrl, internalUrl: server.internalUrl, demoAccount };
  await using _note = await leaveRunningNote(folder, note);
  const keepsMails = configuration.services.auth?.smtpUrl === undefined;
  host.print(welcome(note, { folder, logFile, ledgerFile, pushUrl, caFile, keepsMails, restUrl: server.restUrl }));
  await aborted(host.stop);
  host.print("stopping\n");
}

async function registerDemoAccount(endpoint: Endpoint, account: RunningNote["demoAccount"]): Promise<void> {
  const client = createClient(AuthService, transportTo(endpoint));
  try {
    await client.registerUser({ ...account, firstName: "Demo", lastName: "User", locale: "en" });
  } catch (error) {
    if (reasonOf(error) !== "EMAIL_TAKEN") throw error;
  }
}

interface WelcomeFiles {
  folder: string;
  logFile: string;
  ledgerFile: string;
  /** Where the push stand-in shows what it accepted. */
  pushUrl: string;
  /** The authority of our certificate, where a file names it. */
  caFile: string | undefined;
  /** Whether mails are kept in memory, for want of a mail server. */
  keepsMails: boolean;
  restUrl: string | undefined;
}

/** Every line can be pasted as it is, any number of times: a token is made at the moment it is used. */
function welcome({ publicUrl, internalUrl, demoAccount }: RunningNote, files: WelcomeFiles): string {
  const { folder, logFile, ledgerFile, pushUrl, caFile, keepsMails, restUrl } = files;
  const inFolder = folder === ".concierge" ? "" : ` --folder ${quoted(folder)}`;
  const trusting = caFile === undefined ? "" : ` --ca ${quoted(caFile)}`;
  const curl = `npx --no buf curl${curlOptionsOf(publicUrl, caFile)}`;
  const concierge = "npx --no concierge";
  const token = `${concierge} token`;
  const authorization = `-H "authorization: Bearer $(${token}${inFolder}${trusting})"`;
  const create = "concierge.notification.v1.NotificationInternalService/CreateNotification";
  const login = JSON.stringify(demoAccount);
  const user = `$(${token} --user-id${inFolder}${trusting})`;
  return `
Concierge is running.

  public     ${publicUrl}
  internal   ${internalUrl}
  REST       ${restUrl}
  account    ${demoAccount.email}   password ${demoAccount.password}
  log        ${logFile}
  inbox      ${publicUrl}${INBOX_PATH}   live: log in as the account above
  pushes     ${pushUrl}   live, and in ${ledgerFile}
  mails      ${keepsMails ? `${internalUrl}/dev/mails` : "sent by the mail server"}

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

  # my phone, so that there is something to push to
  ${curl} --protocol connect ${authorization} -d '{"token":"my-phone","platform":"PLATFORM_ANDROID"}' \\
    ${publicUrl}/concierge.notification.v1.NotificationService/RegisterDevice

  # from another service: notify the demo account, and see it come in the live inbox
  ${concierge} call ${create} \\
    '{"title":"Hello","text":"It works","userIds":["'"${user}"'"]}'${inFolder}${trusting}

  # let the next ten pushes fail, and look after what waits
  curl -X PUT -H 'content-type: application/json' -d '[{"fault":"internal","times":10}]' ${pushUrl}/faults
  ${concierge} notifications status${inFolder}${trusting}

Ctrl-C stops it.
`;
}

/** What `buf curl` has to be told to speak HTTP/2, or to trust our certificate. */
function curlOptionsOf(url: string, caFile: string | undefined): string {
  if (!url.startsWith("https:")) return " --http2-prior-knowledge";
  return caFile === undefined ? "" : ` --cacert ${quoted(caFile)}`;
}
