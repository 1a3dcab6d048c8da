/** Opening a port, and why it cannot be opened. */
import type net from "node:net";
import { ExitCode, StartupError } from "../errors.ts";

/** Connections that may wait to be accepted; the kernel's own limit holds, too. With Node's 511 a crowd made others wait a second. */
const BACKLOG = 4096;

/** Makes a server listen; the real port, also when 0 was asked for. Throws a StartupError (exit code 69) that names both. */
export async function openPort(server: net.Server, host: string, port: number): Promise<number> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, backlog: BACKLOG }, resolve);
    });
  } catch (error) {
    throw startupErrorOf(error, host, port);
  }
  // From here an "error" is a failed accept (out of file descriptors): that client retries, the others go on.
  server.removeAllListeners("error").on("error", () => {});
  return (server.address() as net.AddressInfo).port;
}

function startupErrorOf(error: unknown, host: string, port: number): StartupError {
  const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
  const reasons: Record<string, string> = {
    EADDRINUSE: "the port is in use",
    EACCES: "not permitted (ports below 1024 need a privilege)",
    EADDRNOTAVAIL: "this machine does not have that address",
    ENOTFOUND: "the host name is not known",
    ERR_SOCKET_BAD_PORT: "a port is 0 to 65535",
  };
  const message = `cannot listen on ${host}:${port}: ${reasons[code] ?? code}`;
  return new StartupError(message, ExitCode.unavailable, { cause: error });
}
