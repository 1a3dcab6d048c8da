/**
 * Every public service of the contract, with implementations that take whatever is valid and answer nothing: all that is
 * left to fail is the way from the socket to them.
 */

import type { DescMessage, DescService } from "@bufbuild/protobuf";
import { create, type DescMethod, type MessageShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { sideOf } from "../rpc/access.ts";
import type { Implementation } from "../service.ts";
import { services } from "../services.ts";

/** Those services that have a public side, by name, with that side only. */
export const publicServices = services
  .map(({ name, services: all }) => ({ name, services: all.filter((desc) => sideOf(desc) === "public") }))
  .filter(({ services: some }) => some.length > 0);

/** Answers every method of a service with an empty message; a server's stream with two. */
export function answerNothing(name: string): Implementation[] {
  const found = publicServices.find((service) => service.name === name)!;
  return found.services.map((desc) => ({
    desc,
    implementation: Object.fromEntries(
      desc.methods.map((method) => [method.localName, implementationOf(method)]),
    ) as ServiceImpl<DescService>,
  }));
}

type Messages = AsyncIterable<MessageShape<DescMessage>>;

function implementationOf({ methodKind, output }: DescMethod) {
  switch (methodKind) {
    case "unary":
      return () => create(output);
    case "server_streaming":
      return async function* () {
        yield create(output);
        yield create(output);
      };
    case "client_streaming":
      return async (messages: Messages) => {
        for await (const _ of messages);
        return create(output);
      };
    case "bidi_streaming":
      return async function* (messages: Messages) {
        for await (const _ of messages) yield create(output);
      };
  }
}
