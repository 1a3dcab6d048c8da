/** FeedInternalService at several processes of one service, which come and go: another one is asked when one fails, or each time. */
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";

type FeedClient = Client<typeof FeedInternalService>;

export class FeedClients implements Pick<FeedClient, "read"> {
  readonly #when: "after a failure" | "each time";
  #clients = new Map<string, FeedClient>();
  #next = 0;

  constructor(when: "after a failure" | "each time") {
    this.#when = when;
  }

  /** Where the service is from now on. */
  use(urls: readonly string[]): void {
    this.#clients = new Map(urls.map((url) => [url, this.#clients.get(url) ?? clientOf(url)]));
  }

  async read(...parameters: Parameters<FeedClient["read"]>): ReturnType<FeedClient["read"]> {
    if (this.#when === "each time") this.#next++;
    const clients = [...this.#clients.values()];
    const client = clients[this.#next % clients.length];
    if (!client) throw new ConnectError("no process of the service is up", Code.Unavailable);
    try {
      return await client.read(...parameters);
    } catch (error) {
      this.#next++;
      throw error;
    }
  }
}

function clientOf(baseUrl: string): FeedClient {
  return createClient(FeedInternalService, createConnectTransport({ baseUrl, httpVersion: "1.1" }));
}
