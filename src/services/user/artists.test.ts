import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { createRegistry, fromBinary, ScalarType, toBinary } from "@bufbuild/protobuf";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import {
  ArtistCreatedSchema,
  file_concierge_user_v1_user_events,
} from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { ArtistSchema, UserInternalService, UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { Code, reasonOf } from "../../errors.ts";
import { services } from "../../services.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { user } from "./service.ts";

describe("artists", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, user] });
  });

  after(() => system[Symbol.asyncDispose]());

  const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;
  const newArtist = () => system.newUser({ firstName: "Ada", lastName: "Byron", stageName: "The Engines" });

  test("right after the registration artists read their own profile, with what is public of it", async () => {
    const { userId, email, accessToken } = await newArtist();

    const { user: me } = await system.asUser(UserService, accessToken).getMe({});

    assert.deepEqual([me?.userId, me?.email, me?.firstName, me?.lastName], [userId, email, "Ada", "Byron"]);
    assert.deepEqual([me?.kind, me?.roles], [AccountKind.ARTIST, ["artist", "user"]]);
    const { $typeName, ...artist } = me!.artist!;
    const expected = { userId, stageName: "The Engines", bio: "", genres: [], links: [], createdAt: me?.createdAt };
    assert.deepEqual(artist, expected);
  });

  test("20 first reads and the follower make one profile and one event, which is ArtistCreated", async () => {
    const { userId, email, accessToken } = await newArtist();
    const { accessToken: others } = await system.newUser();
    const backend = system.asService(UserInternalService, "backend", "user");
    const reads = Array.from({ length: 20 }, (_, number) => {
      if (number % 3 === 0) return backend.getUser({ userId });
      return system.asUser(UserService, number % 3 === 1 ? accessToken : others).getArtist({ userId });
    });
    await Promise.all(reads);

    const [event, ...more] = await events(system, userId);

    assert.deepEqual(more, []);
    const { $typeName, createdAt, ...fact } = event as ReturnType<typeof fromBinary<typeof ArtistCreatedSchema>>;
    assert.equal($typeName, ArtistCreatedSchema.typeName);
    const names = { firstName: "Ada", lastName: "Byron", locale: "", stageName: "The Engines" };
    assert.deepEqual(fact, { userId, email, ...names });
  });

  test("a registration makes an artist's profile and one event, although nobody calls user", async () => {
    const { userId } = await newArtist();
    await until("the event", async () => (await events(system, userId)).length > 0);
    const { userId: other } = await system.newUser();
    await until("the event of somebody else", async () => (await events(system, other)).length > 0);

    const typesOf = async (id: string) =>
      (await events(system, id)).map(({ $typeName }) => $typeName.split(".").at(-1));
    assert.deepEqual([await typesOf(userId), await typesOf(other)], [["ArtistCreated"], ["UserCreated"]]);
  });

  test("anybody with a session sees what is public of an artist, and nothing else", async () => {
    const { userId, email } = await newArtist();
    const { accessToken } = await system.newUser();
    const person = system.asUser(UserService, accessToken);

    const { artist } = await person.getArtist({ userId: userId.toUpperCase() });

    assert.equal(artist?.userId, userId);
    assert.equal(artist.stageName, "The Engines");
    const bytes = Buffer.from(toBinary(ArtistSchema, artist)).toString("latin1");
    for (const secret of [email, "Ada", "Byron"]) assert.ok(!bytes.includes(secret), secret);
    await assert.rejects(system.asUser(UserService).getArtist({ userId }), { code: Code.Unauthenticated });
  });

  test("who is no artist is none to others, and cannot become one by an update", async () => {
    const { userId, accessToken } = await system.newUser();
    const person = system.asUser(UserService, accessToken);

    for (const id of [userId, crypto.randomUUID()]) {
      await assert.rejects(person.getArtist({ userId: id }), because("ARTIST_NOT_FOUND"));
      await assert.rejects(person.getArtist({ userId: id }), { code: Code.NotFound });
    }
    const update = () => person.updateArtist({ stageName: "Me too", updateMask: { paths: ["stage_name"] } });
    await assert.rejects(update, because("NOT_AN_ARTIST"));
    await assert.rejects(update, { code: Code.PermissionDenied });
    const { user: me } = await person.getMe({});
    assert.deepEqual([me?.kind, me?.artist], [AccountKind.USER, undefined]);
  });

  test("artists change what the mask names; an event tells of each change and of nothing else", async () => {
    const { userId, accessToken } = await newArtist();
    const person = system.asUser(UserService, accessToken);
    const change = {
      stageName: "The Looms",
      bio: "We weave.",
      genres: ["noise", "jazz"],
      links: ["https://looms.example/"],
    };

    const { artist: first } = await person.updateArtist({ ...change, updateMask: { paths: ["bio", "genres"] } });
    const { artist: second } = await person.updateArtist({ ...change, updateMask: { paths: ["stage_name", "links"] } });
    await person.updateArtist({ ...change, updateMask: { paths: ["stage_name", "bio", "genres", "links"] } });

    assert.deepEqual([first?.stageName, first?.bio, first?.links], ["The Engines", "We weave.", []]);
    const { $typeName, createdAt, ...now } = second!;
    assert.deepEqual(now, { userId, ...change });
    assert.deepEqual((await person.getArtist({ userId })).artist, second);
    assert.deepEqual((await person.getMe({})).user?.artist, second);
    const [created, ...updated] = await events(system, userId);
    assert.equal(created?.$typeName, ArtistCreatedSchema.typeName);
    const expected = [
      { ...change, userId, stageName: "The Engines", links: [] },
      { ...change, userId },
    ];
    assert.deepEqual(
      updated.map(({ $typeName, ...fact }) => fact),
      expected,
    );

    await person.updateArtist({ updateMask: { paths: ["bio", "genres", "links"] } });
    const { artist: emptied } = await person.getArtist({ userId });
    assert.deepEqual([emptied?.stageName, emptied?.bio, emptied?.genres, emptied?.links], ["The Looms", "", [], []]);
    await assert.rejects(
      person.updateArtist({ bio: "x", updateMask: { paths: ["email"] } }),
      because("INVALID_FIELD_MASK"),
    );
  });

  const long = (length: number) => `https://a.example/${"b".repeat(length - 18)}`;
  const fits: object[] = [
    { bio: "é".repeat(2000) },
    { genres: Array.from({ length: 10 }, (_, number) => `${number}`.repeat(50)) },
    { links: Array.from({ length: 10 }, () => long(500)) },
    {
      links: [
        "https://a.example",
        "https://a.example:8443/b?c=d#e",
        "https://[2001:db8::1]/",
        "https://169.254.169.254/",
      ],
    },
  ];
  const breaks: object[] = [
    { stageName: "" },
    { stageName: "a".repeat(101) },
    { bio: "é".repeat(2001) },
    { genres: Array.from({ length: 11 }, () => "a") },
    { genres: [""] },
    { genres: ["a".repeat(51)] },
    { links: Array.from({ length: 11 }, () => "https://a.example/") },
    { links: [long(501)] },
    ...["", "a.example", "http://a.example/", "javascript:alert(1)", "https://", "https:///a", "//a.example/"].map(
      (link) => ({
        links: [link],
      }),
    ),
    ...["https://a.example@b.example/", "https://a b.example/", "https://a.example/\n", " https://a.example/"].map(
      (link) => ({
        links: [link],
      }),
    ),
  ];

  test("what an artist may say of themselves has limits", async () => {
    const { accessToken } = await newArtist();
    const person = system.asUser(UserService, accessToken);
    const update = (fields: object) => {
      const paths = Object.keys(fields).map((name) => name.replace("stageName", "stage_name"));
      return person.updateArtist({ ...fields, updateMask: { paths } });
    };
    for (const fields of fits) assert.ok((await update(fields)).artist, JSON.stringify(fields));
    for (const fields of breaks) {
      await assert.rejects(update(fields), because("INVALID_REQUEST"), JSON.stringify(fields));
    }
  });

  test("S-INJ-04 links are stored and shown, and nobody connects to them", async () => {
    let connections = 0;
    await using target = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    target.listen(0, "127.0.0.1");
    await once(target, "listening");
    const { port } = target.address() as AddressInfo;
    const hosts = ["127.0.0.1", "localhost", "[::ffff:7f00:1]", "2130706433", "0177.0.0.1"];
    const links = hosts.map((host) => `https://${host}:${port}/latest/meta-data`);
    const { userId, accessToken } = await newArtist();

    await system.asUser(UserService, accessToken).updateArtist({ links, updateMask: { paths: ["links"] } });
    const { accessToken: others } = await system.newUser();
    const { artist } = await system.asUser(UserService, others).getArtist({ userId });

    assert.deepEqual(artist?.links, links);
    assert.equal(connections, 0);
  });

  const textFields = () => {
    const files = services.flatMap((definition) => definition.services.map((desc) => desc.file));
    const fields = [...createRegistry(...files)].flatMap((desc) => (desc.kind === "message" ? desc.fields : []));
    return fields.filter((field) => "scalar" in field && field.scalar === ScalarType.STRING);
  };

  test("S-INJ-02 no text of any message names a column or an order", () => {
    const names = textFields().filter(({ name }) => /sort|order|column|filter|where|direction|group_by/.test(name));
    assert.deepEqual(names, []);
  });

  test("S-INJ-04 no other text of any message is an address", () => {
    const addresses = textFields().filter(({ name }) =>
      /ur[il]|link|webhook|avatar|jwks|host|callback|endpoint/.test(name),
    );
    assert.deepEqual(
      addresses.map(({ parent, name }) => `${parent.typeName}.${name}`),
      ["concierge.user.v1.UpdateArtistRequest.links", "concierge.user.v1.Artist.links"],
    );
  });
});

/** The events about one person, in their order. */
async function events({ database }: TestSystem, userId: string) {
  const registry = createRegistry(file_concierge_user_v1_user_events);
  const sql = connect(database("user").runtimeUrl, { applicationName: "test" });
  try {
    const rows = await sql`select type, payload from feed_outbox where subject = ${`user/${userId}`} order by id`;
    return rows.map(({ type, payload }) => fromBinary(registry.getMessage(type)!, payload));
  } finally {
    await sql.end();
  }
}
