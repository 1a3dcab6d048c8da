/**
 * Access tokens as an attacker would make them, each by the id of its case. Every one differs from a good token
 * in one respect, and is signed with the real key wherever a real key can be had, so that nothing but the check in question
 * can refuse it. Put together by hand: a library would not make most of them.
 */
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { Refusal } from "../token/compact.ts";
import type { SetKey } from "../token/signing-keys.ts";
import { forgeClaims } from "./forged-claims.ts";

export interface ForgeryTarget {
  /** The private key that signs good tokens. */
  key: SetKey;
  /** The claims of a good token. */
  claims: Record<string, unknown>;
  /** Now, in whole seconds since 1970, as the verifier's clock says. */
  nowSeconds: number;
  /** Where a verifier that follows URLs in headers would go. */
  trapUrl: string;
}

export interface Forgery {
  /** The case's id. */
  id: string;
  what: string;
  token: string;
  /** What the log must say; the caller is told nothing. */
  why: Refusal;
}

type Sign = (signed: Buffer) => Buffer;
type Make = (header: unknown, claims?: unknown, signature?: Sign) => string;

/** How a forger makes tokens for a target. */
export interface Forge extends ForgeryTarget {
  /** The header of a good token. */
  header: Record<string, unknown>;
  /** A good token in every respect but those that are given. Text in place of an object is taken as it is. */
  make: Make;
  /** Somebody else's key of the target's algorithm, and how it signs. */
  foreign: { publicJwk: object; sign: Sign };
}

/** Puts a compact token together, whatever its parts say. */
export function compact(header: unknown, claims: unknown, signature: Sign): string {
  const part = (value: unknown) =>
    Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${signature(Buffer.from(signed)).toString("base64url")}`;
}

/** Signs as the algorithm of the key demands. */
export function signWith(alg: string, key: KeyObject): Sign {
  const digest = alg === "EdDSA" ? null : "sha256";
  return (signed) => sign(digest, signed, { key, dsaEncoding: "ieee-p1363" });
}

/** Every forgery that fits into a header line. */
export function forgeTokens(target: ForgeryTarget): Forgery[] {
  const { alg, kid } = target.key;
  const header = { alg, typ: "at+jwt", kid };
  const own = signWith(alg, createPrivateKey({ key: target.key, format: "jwk" }));
  const { privateKey, publicKey } = keyPair(alg);
  const forge: Forge = {
    ...target,
    header,
    make: (head, claims = target.claims, signature = own) => compact(head, claims, signature),
    foreign: { publicJwk: publicKey.export({ format: "jwk" }), sign: signWith(alg, privateKey) },
  };
  return [
    ...unsignedTokens(forge),
    ...publicKeyAsSecret(forge),
    ...otherAlgorithms(forge),
    ...invalidSignatures(forge),
    ...keyIds(forge),
    ...keysInHeader(forge),
    ...forgeClaims(forge),
    ...otherTypes(forge),
    ...lengths(forge),
    ...spellings(forge),
    ...encryptedTokens(forge),
    ...headersAndClaims(forge),
  ];
}

function keyPair(alg: string): { privateKey: KeyObject; publicKey: KeyObject } {
  if (alg === "EdDSA") return generateKeyPairSync("ed25519");
  if (alg === "ES256") return generateKeyPairSync("ec", { namedCurve: "P-256" });
  return generateKeyPairSync("rsa", { modulusLength: 2048 });
}

function publicKeyOf(key: SetKey): KeyObject {
  return createPublicKey({ key, format: "jwk" });
}

function unsignedTokens({ header, make }: Forge): Forgery[] {
  const empty: Sign = () => Buffer.alloc(0);
  const named = ["none", "nOnE", "NONE", ""].flatMap((alg) => [
    { what: `alg "${alg}", empty signature`, token: make({ ...header, alg }, undefined, empty) },
    { what: `alg "${alg}", signed all the same`, token: make({ ...header, alg }) },
  ]);
  return [
    ...named.map((forgery) => ({ id: "S-JWT-01", ...forgery, why: "bad_alg" as const })),
    {
      id: "S-JWT-01",
      what: "the right alg, empty signature",
      token: make(header, undefined, empty),
      why: "bad_signature",
    },
  ];
}

function publicKeyAsSecret({ key, header, make }: Forge): Forgery[] {
  const publicKey = publicKeyOf(key);
  const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
  const secrets: Record<string, string | Buffer> = {
    PEM: pem,
    "PEM without its last line end": pem.trimEnd(),
    DER: publicKey.export({ type: "spki", format: "der" }),
    JWK: JSON.stringify(publicKey.export({ format: "jwk" })),
    "nothing at all": "",
  };
  return Object.entries(secrets).flatMap(([what, secret]) => {
    const hmac: Sign = (signed) => createHmac("sha256", secret).update(signed).digest();
    return [
      {
        id: "S-JWT-02",
        what: `HS256 with ${what}`,
        token: make({ ...header, alg: "HS256" }, undefined, hmac),
        why: "bad_alg",
      },
      {
        id: "S-JWT-02",
        what: `an HMAC with ${what} under the right alg`,
        token: make(header, undefined, hmac),
        why: "bad_signature",
      },
    ];
  });
}

function otherAlgorithms({ key, header, make, foreign }: Forge): Forgery[] {
  const others = ["ES256", "EdDSA", "RS256", "PS256", "ES384", "ES256K", "HS512", "Ed25519", key.alg.toLowerCase()];
  return [
    ...others
      .filter((alg) => alg !== key.alg)
      .map((alg) => ({ id: "S-JWT-03", what: `alg ${alg}`, token: make({ ...header, alg }), why: "bad_alg" as const })),
    {
      id: "S-JWT-03",
      what: "the right alg, signed with a key of one's own",
      token: make(header, undefined, foreign.sign),
      why: "bad_signature",
    },
  ];
}

function invalidSignatures({ key, header, claims, make }: Forge): Forgery[] {
  const good = make(header);
  const [headPart, , signaturePart] = good.split(".") as [string, string, string];
  const otherClaims = Buffer.from(JSON.stringify({ ...claims, sub: claims.sid })).toString("base64url");
  const bytes = Buffer.from(signaturePart, "base64url");
  const derived: Record<string, Sign> = {
    "a signature of zeros": () => Buffer.alloc(bytes.length),
    "half a signature": () => bytes.subarray(0, bytes.length / 2),
    "a byte behind the signature": () => Buffer.concat([bytes, Buffer.of(0)]),
  };
  if (key.alg === "ES256") {
    const privateKey = createPrivateKey({ key, format: "jwk" });
    derived["a signature in DER"] = (signed) => sign("sha256", signed, { key: privateKey, dsaEncoding: "der" });
  }
  return [
    { what: "another subject under the old signature", token: `${headPart}.${otherClaims}.${signaturePart}` },
    ...Object.entries(derived).map(([what, signature]) => ({ what, token: make(header, undefined, signature) })),
  ].map((forgery) => ({ id: "S-JWT-03", ...forgery, why: "bad_signature" as const }));
}

function keyIds({ header, make, foreign }: Forge): Forgery[] {
  const ids = ["../../../../dev/null", "' OR 1=1--", "кл\u{1F511}", "__proto__", "constructor", "toString", "", "\0"];
  const long = "k".repeat(10 * 1024);
  return [
    ...[...ids, `${header.kid} `].map((kid) => ({
      what: `kid ${JSON.stringify(kid).slice(0, 40)}`,
      token: make({ ...header, kid }, undefined, foreign.sign),
      why: "unknown_kid" as const,
    })),
    { what: "kid of 10 KB", token: make({ ...header, kid: long }, undefined, foreign.sign), why: "too_long" as const },
    ...[undefined, null, 7, {}, [header.kid]].map((kid) => ({
      what: `kid ${JSON.stringify(kid)}`,
      token: make({ ...header, kid }),
      why: "bad_header" as const,
    })),
  ].map((forgery) => ({ id: "S-JWT-04", ...forgery }));
}

function keysInHeader({ header, make, foreign, trapUrl }: Forge): Forgery[] {
  const pointers = { jku: `${trapUrl}/jwks.json`, x5u: `${trapUrl}/chain.pem` };
  const chain = { x5c: ["MIIB"], x5t: "abc", "x5t#S256": "abc" };
  const forged = (members: Record<string, unknown>) =>
    Object.entries(members).map(([name, value]) => ({
      what: name,
      token: make({ ...header, [name]: value }, undefined, foreign.sign),
      why: "bad_header" as const,
    }));
  return [
    ...forged(pointers).map((forgery) => ({ id: "S-JWT-06", ...forgery })),
    ...forged({ jwk: foreign.publicJwk, ...chain }).map((forgery) => ({ id: "S-JWT-07", ...forgery })),
  ];
}

/** What else might once be signed with the same key, or with another: identity, invitation, reset and e-mail tokens. */
function otherTypes({ header, make }: Forge): Forgery[] {
  const types = [
    "JWT",
    "jwt",
    "id+jwt",
    "rt+jwt",
    "invite+jwt",
    "reset+jwt",
    "email+jwt",
    "svc+jwt",
    "AT+JWT",
    "at+jwt ",
  ];
  return [
    ...types.map((typ) => ({ what: `typ "${typ}"`, token: make({ ...header, typ }), why: "bad_typ" as const })),
    { what: "no typ", token: make({ ...header, typ: undefined }), why: "bad_header" as const },
  ].map((forgery) => ({ id: "S-JWT-15", ...forgery }));
}

function lengths({ header, claims, make }: Forge): Forgery[] {
  return [
    { id: "S-JWT-18", what: "4,097 bytes", token: tokenOfLength(4097, header, claims, make), why: "too_long" },
    { id: "S-JWT-18", what: "15 KB", token: make(header, { ...claims, pad: "p".repeat(11_000) }), why: "too_long" },
  ];
}

/** A good token of exactly so many bytes: padding in the claims, white space in the header for what base64 leaves out. */
export function tokenOfLength(length: number, header: object, claims: object, make: Make): string {
  const base = make(header).length;
  for (let spaces = 0; spaces < 3; spaces++) {
    const spaced = `${JSON.stringify(header)}${" ".repeat(spaces)}`;
    for (let pad = Math.floor(((length - base) * 3) / 4) - 20; pad < length; pad++) {
      const token = make(spaced, { ...claims, pad: "p".repeat(pad) });
      if (token.length === length) return token;
      if (token.length > length) break;
    }
  }
  throw new Error(`there is no token of ${length} bytes`);
}

function spellings({ header, claims, make }: Forge): Forgery[] {
  // The question marks become characters that the two alphabets of base64 write differently.
  const good = make(header, { ...claims, odd: "???>>>???" });
  const [head, payload, signature] = good.split(".") as [string, string, string];
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const respelled = alphabet[alphabet.indexOf(signature.at(-1)!) + 1]!;
  const forged: Record<string, string> = {
    "without its signature": `${head}.${payload}`,
    "a fourth part": `${good}.${signature}`,
    "an empty fourth part": `${good}.`,
    "an empty first part": `.${good}`,
    "padded with =": `${good}==`,
    "in the alphabet of standard base64": `${head}.${payload}.${signature}`.replaceAll("-", "+").replaceAll("_", "/"),
    // Where that has bits to spare: 384 bytes of RSA have none.
    ...(signature.length % 4 !== 0 && { "its last character respelled": `${good.slice(0, -1)}${respelled}` }),
    "a percent-encoded dot": good.replace(".", "%2E"),
    "a comma and itself again": `${good},${good}`,
    "a null byte escape": `${good}%00`,
    quoted: `"${good}"`,
    "one character": "x",
    "two dots": "..",
  };
  return Object.entries(forged).map(([what, token]) => ({ id: "S-JWT-19", what, token, why: "bad_form" }));
}

function encryptedTokens({ header, make }: Forge): Forgery[] {
  const jwe = { alg: "PBES2-HS256+A128KW", enc: "A128CBC-HS256", p2c: 1e9, p2s: "c2FsdA" };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return [
    { what: "JWE, PBES2 with p2c 10^9", token: `${part(jwe)}.AAAA.AAAA.AAAA.AAAA`, why: "bad_form" as const },
    {
      what: "JWE, direct key",
      token: `${part({ alg: "dir", enc: "A128GCM" })}..AAAA.AAAA.AAAA`,
      why: "bad_form" as const,
    },
    { what: "p2c and p2s in a JWS", token: make({ ...header, ...jwe }), why: "bad_header" as const },
    { what: "zip DEF in a JWS", token: make({ ...header, zip: "DEF" }), why: "bad_header" as const },
  ].map((forgery) => ({ id: "S-JWT-20", ...forgery }));
}

function headersAndClaims({ header, make }: Forge): Forgery[] {
  const critical = [{ crit: ["x"], x: 1 }, { crit: ["b64"], b64: false }, { crit: [] }, { b64: false }];
  const notObjects = ["[]", "null", '"text"', "1", "", "{", "\u{FEFF}{}"];
  return [
    ...[...critical, { cty: "JWT" }, { x: 1 }].map((members) => ({
      what: `header ${JSON.stringify(members)}`,
      token: make({ ...header, ...members }),
      why: "bad_header" as const,
    })),
    {
      what: "header with a member named __proto__",
      token: make(JSON.stringify(header).replace("{", '{"__proto__":{"alg":"none"},')),
      why: "bad_header" as const,
    },
    ...notObjects.map((text) => ({
      what: `header ${JSON.stringify(text)}`,
      token: make(text),
      why: "bad_form" as const,
    })),
    ...notObjects.map((text) => ({
      what: `claims ${JSON.stringify(text)}`,
      token: make(header, text),
      why: "bad_form" as const,
    })),
  ].map((forgery) => ({ id: "S-JWT-21", ...forgery }));
}
