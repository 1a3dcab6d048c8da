/** The least that node:http2 can do: read a request's body to its end, and answer it with prepared bytes. */
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import type { BenchServer } from "./task.ts";

const RESPONSE = { ":status": 200, "content-type": "application/grpc" };
const TRAILERS = { "grpc-status": "0" };

export async function startBareHttp2(answer: Uint8Array): Promise<BenchServer> {
  const server = http2.createServer();
  server.on("stream", (stream) => {
    stream.on("data", () => {});
    stream.on("end", () => {
      stream.respond(RESPONSE, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers(TRAILERS));
      stream.end(answer);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { port: (server.address() as AddressInfo).port };
}
