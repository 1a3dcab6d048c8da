/** Makes the calls that it reads, a line of JSON each, and prints a line for what became of each. */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { isDeepStrictEqual } from "node:util";
import { type Client, credentials, loadPackageDefinition, type ServiceError, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { serviceTokens } from "./service-token.ts";

interface Call {
  method: string;
  request: object;
  /** In seconds. */
  timeout: number;
  times: number;
}

type Unary = (
  request: object,
  options: { deadline: number },
  done: (error: ServiceError | null, answer?: object) => void,
) => void;
type AuthClient = Client & Record<string, Unary>;

const PROTO = new URL("../legacy/auth_service.proto", import.meta.url).pathname;

function connect(address: string, keysFile: string): AuthClient {
  const definition = loadSync(PROTO, { keepCase: true, defaults: true, arrays: true });
  const { auth } = loadPackageDefinition(definition) as unknown as {
    auth: { AuthService: new (...settings: ConstructorParameters<typeof Client>) => AuthClient };
  };
  const [newestKey] = JSON.parse(readFileSync(keysFile, "utf8")).keys;
  return new auth.AuthService(address, credentials.createInsecure(), { interceptors: [serviceTokens(newestKey)] });
}

function outcomeOf(client: AuthClient, { method, request, timeout }: Call): Promise<object> {
  return new Promise((resolve) => {
    client[method]!(request, { deadline: Date.now() + timeout * 1000 }, (error, answer) =>
      resolve(error ? { code: error.code } : { code: status.OK, answer }),
    );
  });
}

const client = connect(process.env.AUTH_GRPC_URL!, process.env.AUTH_SERVICE_KEYS!);
for await (const line of createInterface(process.stdin)) {
  const call: Call = JSON.parse(line);
  const first = await outcomeOf(client, call);
  let times = 1;
  for (let made = 1; made < call.times; made++) {
    if (isDeepStrictEqual(await outcomeOf(client, call), first)) times += 1;
  }
  process.stdout.write(`${JSON.stringify({ ...first, times })}\n`);
}
client.close();
