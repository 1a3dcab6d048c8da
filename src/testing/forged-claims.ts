/** Forged access tokens, continued: the real key, the right header, and claims that must not pass. */
import type { Forge, Forgery } from "./forged-tokens.ts";

export function forgeClaims(forge: Forge): Forgery[] {
  return [...times(forge), ...issuersAndAudiences(forge), ...subjects(forge)];
}

function times({ header, claims, make, nowSeconds }: Forge): Forgery[] {
  const raw = (exp: string) => JSON.stringify({ ...claims, exp: "EXP" }).replace('"EXP"', exp);
  const badTimes = [
    "null",
    `"${nowSeconds + 60}"`,
    "1e400",
    `${nowSeconds + 60}.5`,
    "-1",
    `[${nowSeconds + 60}]`,
    "true",
  ];
  const wrong = (changes: Record<string, unknown>) => make(header, { ...claims, ...changes });
  const early: Forgery[] = [
    { id: "S-JWT-11", what: "nbf 60 s ahead", token: wrong({ nbf: nowSeconds + 60 }), why: "not_yet_valid" },
    { id: "S-JWT-11", what: "nbf that is no time", token: wrong({ nbf: "0" }), why: "not_yet_valid" },
    { id: "S-JWT-11", what: "iat 1 h ahead", token: wrong({ iat: nowSeconds + 3600 }), why: "not_yet_valid" },
    { id: "S-JWT-11", what: "iat 6 s ahead", token: wrong({ iat: nowSeconds + 6 }), why: "not_yet_valid" },
    { id: "S-JWT-11", what: "no iat", token: wrong({ iat: undefined }), why: "bad_claims" },
  ];
  return [
    { id: "S-JWT-08", what: "expired 6 s ago", token: wrong({ exp: nowSeconds - 6 }), why: "expired" },
    { id: "S-JWT-08", what: "expired in 1970", token: wrong({ exp: 0 }), why: "expired" },
    { id: "S-JWT-09", what: "no exp", token: wrong({ exp: undefined }), why: "bad_claims" },
    ...badTimes.map((exp) => ({
      id: "S-JWT-09",
      what: `exp ${exp.replace(/\d{5,}/, "<time>")}`,
      token: make(header, raw(exp)),
      why: "bad_claims" as const,
    })),
    ...early,
  ];
}

function issuersAndAudiences({ header, claims, make }: Forge): Forgery[] {
  const { iss, aud } = claims as { iss: string; aud: string };
  const issuers = ["https://elsewhere.example", `${iss}/`, iss.toUpperCase(), [iss], { 0: iss }, "", undefined];
  const audiences = ["user", [aud, "elsewhere"], [aud], aud.toUpperCase(), `${aud} `, "", undefined];
  return [
    ...issuers.map((value) => ({ id: "S-JWT-12", name: "iss", value, why: "bad_iss" as const })),
    ...audiences.map((value) => ({ id: "S-JWT-13", name: "aud", value, why: "bad_aud" as const })),
  ].map(({ id, name, value, why }) => ({
    id,
    what: `${name} ${JSON.stringify(value)}`,
    token: make(header, { ...claims, [name]: value }),
    why,
  }));
}

function subjects({ header, claims, make }: Forge): Forgery[] {
  const { sub, sid } = claims;
  const odd = { sub: [undefined, "", [sub], { id: sub }, 7, "ann", `${sub}\n`], sid: [undefined, [sid], "s"] };
  const others = { gen: [undefined, "0", -1, 0.5, 1e300], jti: [undefined, "1"], auth_time: [undefined, "0", -1] };
  return Object.entries({ ...odd, ...others }).flatMap(([name, values]) =>
    values.map((value) => ({
      id: "S-JWT-14",
      what: `${name} ${JSON.stringify(value)?.replace(String(sub), "<uuid>").replace(String(sid), "<uuid>")}`,
      token: make(header, { ...claims, [name]: value }),
      why: "bad_claims" as const,
    })),
  );
}
