import { describe, expect, test } from "vitest";
import { agent, phone, startTestApp } from "../support/app.ts";
import { makeAgent } from "../support/calls.ts";

const h = await startTestApp();
type Refused = { status: number; body: { error?: { code: string; details?: { path: string; message: string }[] } } };
const refusal = ({ status, body }: Refused) => [status, body.error?.code, body.error?.details?.map(({ path }) => path)];

/** Hosts that are not on the public internet, in many notations. */
const forbiddenHosts = [
  ...[
    "127.0.0.1",
    "127.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
  ],
  ...[
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "168.63.129.16",
  ],
  ...[
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[fe80::1]",
    "[fd00::1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
  ],
  ...["[2001:db8::1]", "localhost", "localhost.", "a.localhost", "metadata", "metadata.google.internal", "pbx.local"],
  ...["router.lan", "db.intranet", "kubernetes.default.svc", "x.home.arpa", "①②⑦.0.0.1", "127。0。0。1"],
];
/** A SIP host in its ASCII form. */
const forbiddenSipHosts = forbiddenHosts.filter((host) => /^[\x21-\x7e]+$/.test(host));

const generic = (more: object) => ({
  name: "Generic",
  source: {
    type: "external",
    provider: "generic",
    generic: { url: "https://tts.example.com", body: { text: "{text}" }, ...more },
  },
});

describe("the address of a generic voice", () => {
  test("is on the public internet, with https, without a password, and on no port of another service", async () => {
    const bad = [
      ...forbiddenHosts.map((host) => `https://${host}/speak`),
      ...[
        "http://tts.example.com",
        "ftp://tts.example.com",
        "https://user:pass@tts.example.com",
        "https://u@tts.example.com",
      ],
      ...[
        "https://tts.example.com:22",
        "https://tts.example.com:25/",
        "https://tts.example.com/#x",
        "tts.example.com",
        "https://",
      ],
      // Other parsers find another host in these, and the provider uses the URL as it was written.
      ...[
        "https://tts.example.com\\@127.0.0.1/",
        "https:/tts.example.com",
        "https://tts.example.com/\n",
        "https://a..b/",
      ],
    ];
    for (const url of bad) {
      const response = await h.post("/voices", generic({ url }));
      expect([url, ...refusal(response)]).toEqual([url, 400, "input_invalid", ["source.generic.url"]]);
    }
    expect((await h.post("/voices", generic({ url: "https://tts.example.com:8443/speak?x=1" }))).status).toBe(202);
  });

  test("gets no reserved header and no repeated header", async () => {
    const bad: Record<string, string>[] = [
      { "x-a": "1\r\nx-b: 2" },
      { "x-a": "1\nx-b: 2" },
      { "x-a": "\u0000" },
      { "x-a": "語" },
      { "x a": "1" },
      { "x-a:": "1" },
      { Host: "127.0.0.1" },
      { "Transfer-Encoding": "chunked" },
      { Connection: "x-a" },
      { "Content-Length": "0" },
      { "Content-Type": "text/plain" },
      { "Proxy-Authorization": "Basic x" },
      { "X-Forwarded-For": "127.0.0.1" },
      { Forwarded: "for=127.0.0.1" },
      { "Metadata-Flavor": "Google" },
      { "x-a": "a".repeat(2001) },
    ];
    for (const headers of bad) {
      const response = await h.post("/voices", generic({ headers }));
      const path = `source.generic.headers.${Object.keys(headers)[0]}`;
      expect(refusal(response)).toEqual([400, "input_invalid", [path]]);
    }
    const many = Object.fromEntries(Array.from({ length: 900 }, (_, n) => [`x-${n}`, "\n"]));
    expect(refusal(await h.post("/voices", generic({ headers: many })))).toEqual([
      400,
      "input_invalid",
      ["source.generic.headers"],
    ]);
    const good = await h.post("/voices", generic({ headers: { Authorization: "Bearer x", "x-a": "ü" } }));
    expect(good.status).toBe(202);
  });

  test("stored by an earlier version is returned, and no longer sent to the provider", async () => {
    const { id } = (await h.post("/voices", generic({}))).body.data;
    await h.owner`update voices set definition = jsonb_set(definition, '{generic,url}', '"https://127.0.0.1/"') where id = ${id}`;
    const shown = await h.get(`/voices/${id}`);
    expect([shown.status, shown.body.data.source.generic.url]).toEqual([200, "https://127.0.0.1/"]);
  });
});

describe("a SIP host", () => {
  const registration = { username: "reception", password: "secret-4711", proxy: "sip.example.com" };
  const bad = [
    ...forbiddenSipHosts,
    "sip:sip.example.com",
    "user@sip.example.com",
    "sip.example.com:22",
    "sip.example.com:99999",
  ];

  test("of a registration, a trunk, a call or a transfer is on the public internet; the error names the field", async () => {
    const agentId = await makeAgent(h);
    for (const host of bad) {
      for (const field of ["proxy", "outboundProxy"]) {
        const made = await h.post("/telephony/registrations", { ...registration, [field]: host });
        expect([host, ...refusal(made)]).toEqual([host, 400, "input_invalid", [field]]);
      }
      const secret = { host, username: "ada", password: "secret-4711" };
      const kept = await h.send("PUT", "/auth/providers/sip", { secret });
      expect([host, ...refusal(kept)]).toEqual([host, 400, "input_invalid", ["secret.host"]]);
      const to = `sip:sales@${host}`;
      expect([host, ...refusal(await h.post("/calls", { agentId, medium: phone(to) }))].slice(0, 3)).toEqual([
        host,
        400,
        "input_invalid",
      ]);
      const transferTargets = [{ name: "sales", description: "Prices.", to }];
      expect(refusal(await h.patch(`/agents/${agentId}`, { transferTargets }))).toEqual([
        400,
        "input_invalid",
        ["transferTargets.0.to"],
      ]);
      const definition = { type: "builtin", name: "coldTransfer", parameterOverrides: { target: to } };
      expect(refusal(await h.post("/tools", { name: "to_sales", description: "x", definition }))).toEqual([
        400,
        "input_invalid",
        ["definition.parameterOverrides.target"],
      ]);
    }
  });

  test.each([
    ["sip:sales@pbx.example.com;user=phone", 201],
    ["sip:+14155550100@pbx.example.com:5061;transport=tls;user=phone", 201],
    ["SIP:sales@pbx.example.com", 201],
    ["sips:sales%2Bx@pbx.example.com", 201],
    ["sip:sales@pbx.example.com;maddr=127.0.0.1", 400],
    ["sip:sales@pbx.example.com;transport=tcp;transport=udp", 400],
    ["sip:sales@pbx.example.com;transport=evil", 400],
    ["sip:sales@pbx.example.com;method=BYE", 400],
    ["sip:sales@pbx.example.com?X-Evil=1", 400],
    ["sip:sales%0d%0aVia@pbx.example.com", 400],
    ["sip:sales%40evil@pbx.example.com", 400],
    ["sip:a@b@pbx.example.com", 400],
    ["sip:@pbx.example.com", 400],
    ["sip:sales@-pbx.example.com", 400],
  ])("is parsed the same way in a call and in a transfer: %s", async (to, status) => {
    const transferTargets = [{ name: "sales", description: "Prices.", to }];
    expect((await h.post("/agents", { ...agent, transferTargets })).status).toBe(status);
    const agentId = await makeAgent(h);
    expect((await h.post("/calls", { agentId, medium: phone(to) })).status).toBe(status);
  });

  test("can have a separate authentication name, with a domain", async () => {
    const made = await h.post("/telephony/registrations", { ...registration, authUser: "reception@example.com" });
    expect(made).toMatchObject({ status: 201, body: { data: { authUser: "reception@example.com" } } });
    const bad = await h.post("/telephony/registrations", { ...registration, username: "a@b" });
    expect(refusal(bad)).toEqual([400, "input_invalid", ["username"]]);
  });
});

describe("a language", () => {
  const bad = [
    "en-u-nu-latn",
    "english",
    "xx",
    "en_US",
    "",
    "e",
    "en-",
    "en-XX",
    "und",
    "qaa",
    "en-x-foo",
    "i-klingon",
    "x".repeat(300),
  ];
  test.each(bad)("that is invalid is refused in every field: %j", async (tag) => {
    expect(refusal(await h.post("/agents", { ...agent, languages: [tag] }))).toEqual([
      400,
      "input_invalid",
      ["languages.0"],
    ]);
    expect(refusal(await h.post("/agents", { ...agent, languageHint: tag }))).toEqual([
      400,
      "input_invalid",
      ["languageHint"],
    ]);
    expect(refusal(await h.post("/voices", { ...generic({}), language: tag }))).toEqual([
      400,
      "input_invalid",
      ["language"],
    ]);
    expect(refusal(await h.get(`/voices?language=${encodeURIComponent(tag)}`))).toEqual([
      400,
      "input_invalid",
      ["language"],
    ]);
  });

  test("is stored in its canonical form, and a duplicate in another notation is found", async () => {
    const made = await h.post("/agents", {
      ...agent,
      languages: ["EN-gb", "zh-hant-tw", "de-1996"],
      languageHint: "PT-br",
    });
    expect(made.body.data).toMatchObject({ languages: ["en-GB", "zh-Hant-TW", "de-1996"], languageHint: "pt-BR" });
    expect((await h.post("/voices", { ...generic({}), language: "pt-br" })).body.data.language).toBe("pt-BR");
    const twice = await h.post("/agents", { ...agent, languages: ["en-GB", "EN-gb"] });
    expect(refusal(twice)).toEqual([400, "input_invalid", ["languages.1"]]);
  });

  test("stored by an earlier version is returned, answers calls, and does not block another change", async () => {
    const id = await makeAgent(h);
    const old = { languages: ["en-u-nu-latn", "xx"], languageHint: "en_US" };
    await h.owner`update agent_versions set config = config || ${h.owner.json(old)} where agent_id = ${id}`;
    expect((await h.get(`/agents/${id}`)).body.data).toMatchObject(old);
    expect((await h.post("/calls", { agentId: id, medium: { type: "web" } })).status).toBe(201);
    expect((await h.patch(`/agents/${id}`, { name: "Night", greeting: "Late." })).status).toBe(200);
    expect(refusal(await h.post(`/agents/${id}/versions/1/restore`, {}))[0]).toBe(200);
    expect(refusal(await h.patch(`/agents/${id}`, { languages: ["xx"] }))).toEqual([
      400,
      "input_invalid",
      ["languages.0"],
    ]);
  });

  test("given by a variable of the call is checked in the call", async () => {
    const id = await makeAgent(h, { languageHint: "{{language}}" });
    const place = (language: string) =>
      h.post("/calls", { agentId: id, medium: { type: "web" }, variables: { language } });
    expect((await place("pt-BR")).status).toBe(201);
    expect(refusal(await place("en_US"))).toEqual([400, "input_invalid", ["variables.language"]]);
  });
});
