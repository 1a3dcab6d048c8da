/** `concierge dev`: every service in this process over a real PostgreSQL, with what one needs to try them. */
import { ExitCode, StartupError } from "../errors.ts";
import { openDevelopment } from "./development.ts";
import type { Host } from "./host.ts";

export async function dev(host: Host, folder: string): Promise<void> {
  const mode = host.env.CONCIERGE_MODE ?? "development";
  if (mode !== "development") {
    throw new StartupError("`concierge dev` runs in development mode only; see `concierge serve`", ExitCode.usage);
  }
  await using environment = await openDevelopment(host, folder);
  const { runDevelopment } = await import("./dev-server.ts");
  await runDevelopment(host, folder, environment);
}
