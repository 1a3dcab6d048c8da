/**
 * The command line: every command with its arguments. What a command does is in the file of its name, which is loaded when
 * the command runs: most commands need a small part of the program only.
 */
import { Command, Option } from "commander";
import { OPERATOR } from "../token/key-folder.ts";
import { DEFAULT_FOLDER } from "./development.ts";
import type { Host } from "./host.ts";
import { addKeys, keysOption } from "./key-commands.ts";

const folderOption = () => new Option("--folder <path>", "the development folder").default(DEFAULT_FOLDER);
const caOption = () =>
  new Option("--ca <file>", "authorities (PEM) to trust, instead of those that this machine trusts");
const urlOption = () =>
  new Option("--url <url>", "the internal listener; that of the running development system when not given");
const ownKeysOption = () =>
  new Option("--keys <path>", "the folder of key files; that of the development folder when not given");
const asOption = () => new Option("--as <caller>", "who signs").default(OPERATOR);

/** A command that calls internal methods, signed. */
const signed = (command: Command) =>
  command
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption());

/** The whole command line. It throws where commander would end the process, and prints to the host. */
export function createProgram(host: Host): Command {
  const program = new Command("concierge")
    .description("The front desk of a product: sign-in, profiles, roles and notifications")
    .configureOutput({ writeOut: (text) => host.print(text), writeErr: (text) => host.warn(text) })
    .exitOverride();
  // In the order of the help.
  addRunning(program, host);
  addMigrating(program, host);
  addKeys(program, host);
  addCalling(program, host);
  addAdmin(program, host);
  addUsers(program, host);
  addNotifications(program, host);
  addEvents(program, host);
  addKafka(program, host);
  addAudit(program, host);
  addConfig(program, host);
  return program;
}

/** Services that run. */
function addRunning(program: Command, host: Host): void {
  program
    .command("dev")
    .description("run every service in this process over a real PostgreSQL, for development")
    .addOption(folderOption())
    .action(async ({ folder }) => (await import("./dev.ts")).dev(host, folder));

  program
    .command("serve")
    .description("run services, configured by the environment")
    .argument("<service...>")
    .option("--with-parent", "also stop when standard input ends", false)
    .action(async (names, { withParent }) => (await import("./serve.ts")).serve(host, names, { withParent }));

  program
    .command("doctor")
    .description("examine what services would start with, start nothing, and say what to do")
    .argument(
      "[service...]",
      "those of one process, as for serve; every service, each in a process of its own, when not given",
    )
    .option("--json", "one line of JSON for each finding", false)
    .action(async (names, settings) => (await import("./doctor.ts")).doctor(host, names, settings));

  program
    .command("demo")
    .description("do the whole journey once, on free ports, and say how it went")
    .option("--processes", "every service in a process of its own", false)
    .option(
      "--base <url>",
      "over the system that runs there; with {service} in it if each service has a host of its own",
    )
    .option("--pushes <url>", "the push stand-in of that system")
    .addOption(keysOption())
    .action(async (settings) => {
      if (settings.base === undefined) return (await import("./demo.ts")).demo(host, settings);
      return (await import("./demo-elsewhere.ts")).demoElsewhere(host, settings);
    });

  program
    .command("push-stand-in")
    .description("run what takes Firebase's place in development, alone, for tests of your own")
    .option("--host <address>", "address to bind; 0.0.0.0 in a container", "127.0.0.1")
    .option("--port <number>", "0 takes a free one", "0")
    .option("--name <host...>", "hosts by which it is reached, beside 127.0.0.1 and localhost", [])
    .option(
      "--ledger <file>",
      "where accepted pushes are written, a line of JSON each",
      `${DEFAULT_FOLDER}/pushes.jsonl`,
    )
    .option(
      "--key <file>",
      "the service account's key in JSON; made if missing",
      `${DEFAULT_FOLDER}/service-account.json`,
    )
    .action(async (settings) => (await import("./push-stand-in.ts")).pushStandIn(host, settings));
}

/** Databases, up and down. */
function addMigrating(program: Command, host: Host): void {
  program
    .command("provision")
    .description("make the databases and roles that services' URLs name, or give them back the passwords in these URLs")
    .argument("[service...]")
    .requiredOption("--admin <file>", "file with the URL of a role that may make databases and roles")
    .action(async (names, { admin }) => (await import("./provision.ts")).provision(host, names, admin));

  program
    .command("migrate")
    .description("apply migrations, with each service's owner role")
    .argument("[service...]")
    .option("--plan", "print what would be applied, and change nothing", false)
    .option("--development", "use the databases of the development folder", false)
    .addOption(folderOption())
    .action(async (names, settings) => (await import("./migrate.ts")).migrateUp(host, names, settings));

  program
    .command("migrate-down")
    .description("undo the newest migration of a service")
    .argument("<service>")
    .option("--development", "use the databases of the development folder", false)
    .addOption(folderOption())
    .action(async (name, settings) => (await import("./migrate.ts")).migrateDownOne(host, name, settings));

  program
    .command("restored")
    .description(
      "after a restore, before services start: let readers begin anew, and end what may have been ended since",
    )
    .argument("[service...]")
    .option("--nothing-lost", "every acknowledged change was restored: sessions and devices stay", false)
    .action(async (names, settings) => (await import("./restored.ts")).restored(host, names, settings));
}

/** Methods, called by hand. */
function addCalling(program: Command, host: Host): void {
  program
    .command("token")
    .description("print a token: an access token of the demo account, or a service token for one method")
    .option("--user-id", "print the demo account's id instead")
    .option("--for <method>", "a service token for this method, package.Service/Method")
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./token.ts")).token(host, settings));

  signed(
    program
      .command("call")
      .description("call an internal method, signed, and print the answer")
      .argument("<method>", "package.Service/Method")
      .argument("[message]", "the message in JSON", "{}"),
  ).action(async (method, message, settings) => (await import("./call.ts")).call(host, method, message, settings));

  program
    .command("greet")
    .description("call greeter in all four patterns over each protocol, and show that an expired token is refused")
    .option("--url <url>", "the public listener; that of the running development system when not given")
    .addOption(new Option("--protocol <name>", "use only this one").choices(["grpc", "grpc-web", "connect"]))
    .option("--token <token>", "an access token; a new one of the demo account when not given")
    .addOption(caOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./greet.ts")).greet(host, settings));
}

/** Who administers the installation. */
function addAdmin(program: Command, host: Host): void {
  const admin = program.command("admin").description("say who administers the installation");
  signed(
    admin
      .command("bootstrap")
      .description("make an account the first administrator, once in the life of an installation")
      .requiredOption("--user-id <uuid>", "the account"),
  ).action(async (settings) => (await import("./admin.ts")).bootstrapAdmin(host, settings));
}

/** Accounts. */
function addUsers(program: Command, host: Host): void {
  const users = program.command("users").description("accounts of people");
  signed(
    users
      .command("import")
      .description("make accounts of people who have a password elsewhere: a JSON object a line, with the hash of it")
      .argument(
        "<file>",
        "lines of {email, password_hash, first_name?, last_name?, locale?, kind?, stage_name?, email_verified?}",
      )
      .option("--from-line <number>", "begin with this line, to go on where an import was stopped", "1"),
  ).action(async (file, settings) => (await import("./users-import.ts")).importUsers(host, file, settings));
}

/** What is pushed to people. */
function addNotifications(program: Command, host: Host): void {
  const notifications = program.command("notifications").description("look after what is pushed to people");
  const codeOption = () =>
    new Option("--code <code>", "only those given up for this reason, such as messaging/internal-error");
  signed(
    notifications
      .command("status")
      .description("print what waits to be pushed, and what was given up")
      .option("--json", "as JSON", false),
  ).action(async (settings) => (await import("./notifications.ts")).printQueueStatus(host, settings));
  signed(
    notifications
      .command("dead")
      .description("print recipients that were given up, the last one first")
      .addOption(codeOption())
      .option("--limit <number>", "most of them to print", "100")
      .option("--json", "one line of JSON for each", false),
  ).action(async (settings) => (await import("./notifications.ts")).listDeadLetters(host, settings));
  signed(
    notifications
      .command("redrive")
      .description("let recipients that were given up be tried again from the beginning")
      .addOption(codeOption())
      .option("--notification <uuid>", "only those of this notification"),
  ).action(async (settings) => (await import("./notifications.ts")).redriveDeadLetters(host, settings));
}

/** What services publish. */
function addEvents(program: Command, host: Host): void {
  const events = program.command("events").description("look at the feeds of services");
  signed(
    events
      .command("tail")
      .description("print what services publish as it happens, one line of JSON for each event, until Ctrl-C")
      .option("--service <name...>", "only of these services")
      .option("--types <name...>", "only these events, by full name or without the package")
      .option("--from <place>", "where to begin: newest, oldest, or after a position of the one service", "newest"),
  ).action(async (settings) => (await import("./events.ts")).tailEvents(host, settings));
  signed(
    events
      .command("status")
      .description("print how each feed is, and how far its readers among the services have come")
      .option("--service <name...>", "only of these services")
      .option("--json", "as JSON", false),
  ).action(async (settings) => (await import("./events-status.ts")).printFeedStatus(host, settings));
}

/** What is published to Kafka. */
function addKafka(program: Command, host: Host): void {
  const kafka = program.command("kafka").description("make the topics of CONCIERGE_KAFKA_BROKERS, and read them");
  kafka
    .command("topics")
    .description("make every topic that services publish to and that is missing")
    .option("--partitions <number>", "of each new topic", "6")
    .option("--replication <number>", "brokers that keep each of them", "1")
    .action(async (settings) => (await import("./kafka.ts")).makeTopics(host, settings));
  kafka
    .command("consume")
    .description("print events as they come to topics, one line of JSON each, until Ctrl-C")
    .option("--topic <name...>", "only these, without the prefix")
    .option("--from <place>", "where to begin without a group's offsets: newest or oldest", "newest")
    .option("--group <name>", "the consumer group; a new one when not given")
    .action(async (settings) => (await import("./kafka.ts")).tailTopics(host, settings));
}

/** What happened to accounts. */
function addAudit(program: Command, host: Host): void {
  const audit = program.command("audit").description("look at auth's audit log");
  signed(
    audit
      .command("list")
      .description("print entries, the newest first")
      .option("--user-id <uuid>", "only about this account")
      .option("--action <name>", "only these, such as login")
      .option("--since <time>", "only from this time on, such as 2026-01-31 or 2026-01-31T12:00:00Z")
      .option("--limit <number>", "most entries to print", "100")
      .option("--json", "one line of JSON for each", false),
  ).action(async (settings) => (await import("./audit.ts")).listAudit(host, settings));
  signed(audit.command("verify").description("check that no entry was changed, removed or slipped in")).action(
    async (settings) => (await import("./audit.ts")).verifyAudit(host, settings),
  );
}

/** Variables, and names in contracts. */
function addConfig(program: Command, host: Host): void {
  program
    .command("config")
    .description("print every variable with its default, as .env.example")
    .action(async () => (await import("./configuration.ts")).printVariables(host));
  program
    .command("permissions")
    .description("print the names of all permissions that methods ask for, as a TypeScript union")
    .action(async () => (await import("./permissions.ts")).printPermissions(host));
  program
    .command("network-policies")
    .description("print who may connect to whom, as the contract says, as NetworkPolicies of Kubernetes")
    .action(async () => (await import("./network-policies.ts")).printNetworkPolicies(host));
}
