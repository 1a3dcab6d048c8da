/** The command line's part that makes keys and certificates: each command with its arguments. */
import { Argument, type Command, Option } from "commander";
import { DEFAULT_FOLDER } from "./development.ts";
import type { Host } from "./host.ts";

export const keysOption = () =>
  new Option("--keys <path>", "the folder of key files").default(`${DEFAULT_FOLDER}/keys`);

const stepArgument = () => new Argument("<step>", "in this order").choices(["publish", "activate", "retire"]);

/** Key files, and certificates. */
export function addKeys(program: Command, host: Host): void {
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
    .command("containers")
    .description("make every secret of the system in containers (deploy/compose.yaml) that is missing")
    .option("--folder <path>", "where to keep them", `${DEFAULT_FOLDER}/containers`)
    .action(async ({ folder }) => (await import("./keys.ts")).makeContainerSecrets(host, folder));
  keys
    .command("rotate")
    .description("take a step of changing the signing key, and say what comes next")
    .addArgument(stepArgument())
    .addOption(keysOption())
    .option("--algorithm <name>", "of a new key: ES256, EdDSA or RS256", "ES256")
    .action(async (step, settings) =>
      (await import("./keys.ts")).rotateKeys(host, settings.keys, step, settings.algorithm),
    );
  keys
    .command("rotate-pairs")
    .description("take a step of changing the keys that services know each other by, and say what comes next")
    .addArgument(stepArgument())
    .addOption(keysOption())
    .option("--of <party>", "only where this service or caller calls or is called")
    .option("--pair <caller:callee...>", "only these, such as user:auth")
    .action(async (step, { keys: folder, ...selection }) =>
      (await import("./keys.ts")).rotatePairs(host, folder, step, selection),
    );
  keys
    .command("rotate-tokens")
    .description("take a step of changing the key that refresh tokens are derived with, and say what comes next")
    .addArgument(stepArgument())
    .addOption(keysOption())
    .action(async (step, settings) => (await import("./keys.ts")).rotateTokenKeys(host, settings.keys, step));
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
