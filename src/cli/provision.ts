/** `concierge provision`: makes the databases and roles that services' URLs name, as an administrator of the server. */
import { readFile } from "node:fs/promises";
import { databaseOf } from "../db/connection.ts";
import { startError } from "../db/migrate.ts";
import { type DatabasePlan, type DatabaseUrls, provisionDatabase } from "../db/provision.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { databaseConfigurationOf, servicesWithDatabase } from "./configuration.ts";
import type { Host } from "./host.ts";
import { named } from "./migrate.ts";

/** Service by service; all of those with a database for an empty list. `adminFile` holds the administrator's URL. */
export async function provision(host: Host, names: string[], adminFile: string): Promise<void> {
  const adminUrl = await readUrl(adminFile);
  for (const { name, ...urls } of databaseConfigurationOf(host.env, servicesWithDatabase(names))) {
    const made = provisionDatabase(adminUrl, planOf(urls)).catch((error: unknown) => {
      throw startError(error);
    });
    await named(name, made);
    host.print(`${name}: the database and its roles are there\n`);
  }
}

async function readUrl(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch(({ code }: NodeJS.ErrnoException) => {
    throw new StartupError(`${file} cannot be read (${code})`, ExitCode.config);
  });
  if (URL.canParse(text.trim())) return text.trim();
  throw new StartupError(`${file} does not hold a URL`, ExitCode.config);
}

function planOf({ ownerUrl, runtimeUrl, jobUrl }: DatabaseUrls): DatabasePlan {
  const [owner, runtime] = [loginOf(ownerUrl), loginOf(runtimeUrl)];
  return {
    database: databaseOf(runtimeUrl),
    ownerRole: owner.role,
    ownerPassword: owner.password,
    runtimeRole: runtime.role,
    runtimePassword: runtime.password,
    job: jobUrl === undefined ? undefined : loginOf(jobUrl),
  };
}

function loginOf(url: string): { role: string; password: string } {
  const { username, password } = new URL(url);
  return { role: decodeURIComponent(username), password: decodeURIComponent(password) };
}
