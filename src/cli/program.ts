/**
 * The command line: every command with its arguments. What a command does is in the file of its name, which is loaded when
 * the command runs: most commands need a small part of the program only.
 */
import { Argument, Command, Option } from "commander";
import { OPERATOR } from "../token/key-folder.ts";
import { DEFAULT_FOLDER } from "./development.ts";
import type { Host } from "./host.ts";

const folderOption = () => new Option("--folder <path>", "the development folder").default(DEFAULT_FOLDER);
const keysOption = () => new Option("--keys <path>", "the folder of key files").default(`${DEFAULT_FOLDER}/keys`);
const caOption = () =>
  new Option("--ca <file>", "authorities (PEM) to trust, instead of those that this machine trusts");
const urlOption = () =>
  new Option("--url <url>", "the internal listener; that of the running development system when not given");
const ownKeysOption = () =>
  new Option("--keys <path>", "the folder of key files; that of the development folder when not given");
const asOption = () => new Option("--as <caller>", "who signs").default(OPERATOR);

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
  addEvents(program, host);
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
    .command("demo")
    .description("do the whole journey once, on free ports, and say how it went")
    .option("--processes", "every service in a process of its own", false)
    .action(async ({ processes }) => (await import("./demo.ts")).demo(host, { processes }));
}

/** Databases, up and down. */
function addMigrating(program: Command, host: Host): void {
  program
    .command("migrate")
    .description("apply migrations, with each service's owner role")
    .argument("[service...]")
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
}

/** Key files, and certificates. */
function addKeys(program: Command, host: Host): void {
  program
    .command("certs")
    .description("make certificates for TLS on this machine, where they are missing, and say how to use them")
    .option("--tls <path>", "the folder of certificates", `${DEFAULT_FOLDER}/tls`)
    .option("--host <name...>", "more names or addresses that the certificate is to be good for", [])
    .action(async (settings) => (await import("./certs.ts")).makeCertificates(host, settings.tls, settings.host));

  const keys = program.command("keys").description("make keys");
  keys
    .command("init")
    .description("make every key that is missing")
    .addOption(keysOption())
    .option("--algorithm <name>", "of access tokens: ES256, EdDSA or RS256", "ES256")
    .action(async (settings) => (await import("./keys.ts")).makeKeys(host, settings.keys, settings.algorithm));
  keys
    .command("rotate")
    .description("take a step of changing the signing key, and say what comes next")
    .addArgument(new Argument("<step>", "in this order").choices(["publish", "activate", "retire"]))
    .addOption(keysOption())
    .option("--algorithm <name>", "of a new key: ES256, EdDSA or RS256", "ES256")
    .action(async (step, settings) =>
      (await import("./keys.ts")).rotateKeys(host, settings.keys, step, settings.algorithm),
    );
  keys
    .command("add-caller")
    .description(
      "make a key for a caller that is none of our services; run again, it adds a newer key; the old one stays valid",
    )
    .argument("<name>")
    .requiredOption("--to <service>", "the service to call")
    .addOption(keysOption())
    .action(async (name, settings) =>
      (await import("./keys.ts")).addForeignCaller(host, settings.keys, name, settings.to),
    );
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

  program
    .command("call")
    .description("call an internal method, signed, and print the answer")
    .argument("<method>", "package.Service/Method")
    .argument("[message]", "the message in JSON", "{}")
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (method, message, settings) => (await import("./call.ts")).call(host, method, message, settings));

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
  admin
    .command("bootstrap")
    .description("make an account the first administrator, once in the life of an installation")
    .requiredOption("--user-id <uuid>", "the account")
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./admin.ts")).bootstrapAdmin(host, settings));
}

/** Accounts. */
function addUsers(program: Command, host: Host): void {
  const users = program.command("users").description("accounts of people");
  users
    .command("import")
    .description("make accounts of people who have a password elsewhere: a JSON object a line, with the hash of it")
    .argument(
      "<file>",
      "lines of {email, password_hash, first_name?, last_name?, locale?, kind?, stage_name?, email_verified?}",
    )
    .option("--from-line <number>", "begin with this line, to go on where an import was stopped", "1")
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (file, settings) => (await import("./users-import.ts")).importUsers(host, file, settings));
}

/** What services publish. */
function addEvents(program: Command, host: Host): void {
  const events = program.command("events").description("look at the feeds of services");
  events
    .command("tail")
    .description("print what services publish as it happens, one line of JSON for each event, until Ctrl-C")
    .option("--service <name...>", "only of these services")
    .option("--types <name...>", "only these events, by full name or without the package")
    .option("--from <place>", "where to begin: newest, oldest, or after a position of the one service", "newest")
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./events.ts")).tailEvents(host, settings));
  events
    .command("status")
    .description("print how each feed is, and how far its readers among the services have come")
    .option("--service <name...>", "only of these services")
    .option("--json", "as JSON", false)
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./events-status.ts")).printFeedStatus(host, settings));
}

/** What happened to accounts. */
function addAudit(program: Command, host: Host): void {
  const audit = program.command("audit").description("look at auth's audit log");
  audit
    .command("list")
    .description("print entries, the newest first")
    .option("--user-id <uuid>", "only about this account")
    .option("--action <name>", "only these, such as login")
    .option("--since <time>", "only from this time on, such as 2026-01-31 or 2026-01-31T12:00:00Z")
    .option("--limit <number>", "most entries to print", "100")
    .option("--json", "one line of JSON for each", false)
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./audit.ts")).listAudit(host, settings));
  audit
    .command("verify")
    .description("check that no entry was changed, removed or slipped in")
    .addOption(urlOption())
    .addOption(ownKeysOption())
    .addOption(caOption())
    .addOption(asOption())
    .addOption(folderOption())
    .action(async (settings) => (await import("./audit.ts")).verifyAudit(host, settings));
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
}
