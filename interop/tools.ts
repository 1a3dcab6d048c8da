/**
 * grpcurl and buf curl, run as processes against a real listener. They know nothing of our contracts but what the server's
 * reflection tells them. Both show errors in their own words; here they become one shape.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import { codeFromString } from "@connectrpc/connect/protocol-connect";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

const projectFolder = join(import.meta.dirname, "..");
const GRPCURL = join(projectFolder, ".concierge/tools/grpcurl");
const BUF = join(projectFolder, "node_modules/.bin/buf");
const TIMEOUT_MS = 20_000;
const ERROR_INFO = "google.rpc.ErrorInfo";

/** One call: what a person would type. */
export interface ToolCall {
  /** URL of the listener. */
  url: string;
  /** "package.Service/Method" */
  method: string;
  /** The message in JSON. */
  message: object;
  /** Lines such as "authorization: Bearer ...". */
  headers: string[];
  /** Seconds after which the tool gives up. */
  limitSeconds?: number;
}

/** What the server said: decoded answers, and how the call ended. */
export interface Outcome {
  /** Everything that was decoded, as the tool shows it. */
  answer: string;
  /** Not set when the call succeeded. */
  error?: { code: Code; reason: string | undefined; text: string };
}

interface Tool {
  name: string;
  call(call: ToolCall): Promise<Outcome>;
}

export const tools: Tool[] = [
  { name: "grpcurl", call: callWithGrpcurl },
  ...["grpc", "grpcweb", "connect"].map((protocol) => ({
    name: `buf curl --protocol ${protocol}`,
    call: (call: ToolCall) => callWithBuf(protocol, call),
  })),
];

/** Runs grpcurl on a listener, such as ["list"]; resolves to what it prints. */
export async function grpcurl(url: string, args: string[], flags: string[] = []): Promise<string> {
  const { code, stdout, stderr } = await run(GRPCURL, ["-plaintext", ...flags, new URL(url).host, ...args]);
  if (code !== 0) throw new Error(`grpcurl ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}

/** Every method of a listener, "package.Service/Method", as buf curl lists them. */
export async function bufMethods(url: string): Promise<string[]> {
  const { code, stdout, stderr } = await run(BUF, ["curl", "--http2-prior-knowledge", "--list-methods", url]);
  if (code !== 0) throw new Error(`buf curl --list-methods ended with ${code}: ${stderr}`);
  return lines(stdout);
}

export function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

async function callWithGrpcurl({ url, method, message, headers, limitSeconds = 10 }: ToolCall): Promise<Outcome> {
  const flags = ["-plaintext", "-format-error", "-max-time", String(limitSeconds), ...asFlags(headers)];
  const ended = await run(GRPCURL, [...flags, "-d", JSON.stringify(message), new URL(url).host, method]);
  return outcomeOf(ended, (status: { code: number; details?: { "@type": string; "@value"?: string }[] }) => ({
    code: status.code,
    details: (status.details ?? []).map((detail) => [detail["@type"], detail["@value"]]),
  }));
}

async function callWithBuf(
  protocol: string,
  { url, method, message, headers, limitSeconds = 10 }: ToolCall,
): Promise<Outcome> {
  const flags = ["--protocol", protocol, "--http2-prior-knowledge", ...asFlags(headers)];
  const args = ["--timeout", `${limitSeconds}s`, "curl", ...flags, "-d", JSON.stringify(message), `${url}/${method}`];
  return outcomeOf(await run(BUF, args), (status: { code: string; details?: { type: string; value: string }[] }) => ({
    code: codeFromString(status.code),
    details: (status.details ?? []).map(({ type, value }) => [type, value]),
  }));
}

function asFlags(headers: string[]): string[] {
  return headers.flatMap((header) => ["-H", header]);
}

interface ReadStatus {
  code: number | undefined;
  details: (string | undefined)[][];
}

/** `read` gets the JSON in which the tool shows a status; whatever else it says of a failure is a fault of the server. */
function outcomeOf<Status>({ code, stdout, stderr }: Ended, read: (status: Status) => ReadStatus): Outcome {
  if (code === 0) return { answer: stdout };
  const json = /^\{.*^\}/ms.exec(stderr)?.[0];
  const status = json === undefined ? undefined : read(JSON.parse(json) as Status);
  if (status?.code === undefined) throw new Error(`the tool could not make sense of the answer: ${stderr}`);
  const info = status.details.find(([type]) => type?.endsWith(ERROR_INFO))?.[1];
  const reason = info === undefined ? undefined : fromBinary(ErrorInfoSchema, Buffer.from(info, "base64")).reason;
  return { answer: stdout, error: { code: status.code as Code, reason, text: stderr } };
}

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function run(file: string, args: string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    execFile(file, args, { timeout: TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error && typeof error.code !== "number") reject(error);
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}
