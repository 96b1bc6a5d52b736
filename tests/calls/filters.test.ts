import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { idFloor, idPattern, newId } from "../../db/ids.ts";
import { billMicros, costLines } from "../../routers/billing/price.ts";
import { searchableTerms, searchTermsOf } from "../../routers/calls/list/search-terms.ts";
import { phone, startTestApp, type TestResponse, until } from "../support/app.ts";
import { finished, makeAgent } from "../support/calls.ts";

const h = await startTestApp({ workers: true, speed: 200, credits: 100_000 });
type Shown = { id: string; to: string | null; from: string | null; [field: string]: unknown };

let agentId: string;
let other: string;
/** Every call of Ada, newest first, as GET returns it. */
let all: Shown[];

beforeAll(async () => {
  agentId = await makeAgent(h);
  other = await makeAgent(h);
  const call = (of: string, medium: object, metadata: object = {}) =>
    h.post("/calls", { agentId: of, medium, metadata });
  await call(agentId, phone("+14155550100"), { tier: "gold", note: "a:b" });
  await call(agentId, phone("+14155550001"), { tier: "gold" });
  await call(other, { ...phone("+14155550003"), from: "+14155550100" }, { tier: "silver" });
  await call(other, { type: "web" });
  await call(agentId, phone("+14155550006"));
  await call(agentId, phone("+14155550010"), { formula: "=1+1" });
  const [row] = await h.owner`select provider_agent_id as id from agents where id = ${agentId}`;
  await h.simulator.control("inbound", {
    accountId: "platform",
    agentId: row!.id,
    from: "+14155550142",
    ending: "0010",
  });
  const ids = await until(async () => {
    const rows = await h.owner`select id from calls where client_id = ${h.ada.clientId} order by id desc`;
    return rows.length === 7 ? rows.map(({ id }) => id as string) : null;
  });
  for (const id of ids) await finished(h, id);
  await until(async () => (await h.owner`select 1 from calls where recording_status = 'pending'`).length === 0);
  all = await Promise.all(ids.map(async (id) => (await h.get(`/calls/${id}`)).body.data));
  // Bob has the same calls, which Ada must never see.
  const bobs = await makeAgent(h, {}, h.bob.key);
  const request = { agentId: bobs, medium: phone("+14155550100"), metadata: { tier: "gold", note: "a:b" } };
  const placed = await h.post("/calls", request, { key: h.bob.key });
  await finished(h, placed.body.data.id);
}, 60_000);

const idsOf = (rows: Shown[]) => rows.map(({ id }) => id);
const listed = async (query: string): Promise<string[]> => {
  const { status, body } = await h.get(`/calls?${query}`);
  if (status !== 200) throw new Error(JSON.stringify(body));
  return idsOf(body.data);
};
const e = encodeURIComponent;

describe("the list has exactly the calls that match", () => {
  const cases: [string, () => string, (call: Shown) => boolean][] = [
    ["no filter", () => "", () => true],
    ["status", () => "status=failed", ({ status }) => status === "failed"],
    ["outcome", () => "outcome=busy", ({ outcome }) => outcome === "busy"],
    ["agent", () => `agentId=${other}`, (call) => call.agentId === other],
    ["direction", () => "direction=inbound", ({ direction }) => direction === "inbound"],
    ["number", () => `number=${e("+14155550100")}`, ({ to, from }) => [to, from].includes("+14155550100")],
    ["to", () => `to=${e("+14155550100")}`, ({ to }) => to === "+14155550100"],
    ["from", () => `from=${e("+14155550100")}`, ({ from }) => from === "+14155550100"],
    ["a shortest duration", () => "minDurationSeconds=10", ({ durationSeconds }) => Number(durationSeconds) >= 10],
    [
      "a longest duration",
      () => "maxDurationSeconds=10",
      ({ durationSeconds }) => durationSeconds !== null && Number(durationSeconds) <= 10,
    ],
    ["a recording", () => "hasRecording=true", ({ recordingStatus }) => recordingStatus === "ready"],
    ["no recording", () => "hasRecording=false", ({ recordingStatus }) => recordingStatus !== "ready"],
    ["metadata", () => "metadata=tier:gold", ({ metadata }) => (metadata as { tier?: string }).tier === "gold"],
    [
      "several pairs, also one with a colon",
      () => `metadata=tier:gold&metadata=${e("note:a:b")}`,
      ({ metadata }) => (metadata as { note?: string }).note === "a:b",
    ],
    ["a start time", () => `createdAfter=${e(String(all[2]!.createdAt))}`, (call) => all.indexOf(call) <= 2],
    [
      "an end time in another zone",
      () => `createdBefore=${e(String(all[2]!.createdAt).replace("Z", "+00:00"))}`,
      (call) => all.indexOf(call) > 2,
    ],
    [
      "number and other filters together",
      () => `number=${e("+14155550199")}&status=ended&outcome=completed&hasRecording=true&metadata=tier:gold`,
      ({ from, outcome, recordingStatus, metadata }) =>
        from === "+14155550199" &&
        outcome === "completed" &&
        recordingStatus === "ready" &&
        (metadata as { tier?: string }).tier === "gold",
    ],
  ];

  test.each(cases)("%s", async (name, query, passes) => {
    const expected = idsOf(all.filter(passes));
    expect(await listed(query())).toEqual(expected);
    expect(expected.length, "a filter that nothing passes proves nothing").toBeGreaterThan(0);
    if (name !== "no filter") expect(expected.length).toBeLessThan(all.length);
    // The same with one row per page: no gap, no duplicate.
    const walked: string[] = [];
    let cursor = "";
    do {
      const { body } = await h.get(`/calls?${query()}&limit=1${cursor ? `&cursor=${cursor}` : ""}`);
      walked.push(...idsOf(body.data));
      cursor = body.meta.nextCursor;
    } while (cursor);
    expect(walked).toEqual(expected);
    expect(exported(await h.get(`/calls/export?${query()}`)).map((row) => row[0])).toEqual(expected);
  });

  test("whole words of the transcript, all of them, in any case", async () => {
    const texts = await Promise.all(
      all.map(async ({ id }) => ({ id, text: String((await h.get(`/calls/${id}/transcript`)).body.data.text) })),
    );
    const having = (...words: string[]) =>
      texts
        .filter(({ text }) => {
          const terms = searchTermsOf(text.replaceAll(/^(user|agent): /gm, ""));
          return words.every((word) => terms.includes(word));
        })
        .map(({ id }) => id);
    for (const words of [["message"], ["goodbye"], ["person", "message"], ["leave", "available"]]) {
      expect(await listed(`search=${e(words.join(" "))}`)).toEqual(having(...words));
      expect(await listed(`search=${e(`«${words.join(",  ").toUpperCase()}»!`)}`)).toEqual(having(...words));
    }
    expect(having("message").length).toBeGreaterThan(0);
    expect(await listed("search=messag")).toEqual([]);
    expect(await listed(`search=message&from=${e("+14155550100")}`)).toEqual(
      having("message").filter((id) => id === all[4]!.id),
    );
  });

  test("a malformed filter is named in the error", async () => {
    const bad = [
      ["createdAfter=yesterday", "createdAfter"],
      ["minDurationSeconds=-1", "minDurationSeconds"],
      ["minDurationSeconds=1.5", "minDurationSeconds"],
      ["hasRecording=yes", "hasRecording"],
      ["metadata=tier", "metadata"],
      ["search=a", "search"],
      ["search=%21%21", "search"],
      [`search=${e("one two three four five six seven eight nine")}`, "search"],
      ["direction=sideways", "direction"],
      [[1, 2, 3, 4, 5, 6].map((n) => `metadata=k${n}:v`).join("&"), "metadata"],
    ];
    for (const [query, path] of bad) {
      for (const door of ["/calls", "/calls/export"]) {
        const { status, body } = await h.get(`${door}?${query}`);
        expect([query, status, body.error?.details?.[0]?.path]).toEqual([query, 400, path]);
      }
    }
    expect((await h.get("/calls/export?limit=5")).status).toBe(400);
    expect((await h.get("/calls/export?cursor=x")).status).toBe(400);
  });
});

/** The rows of a CSV below its header. No value in these tests has a line break. */
function exported({ status, body, headers }: TestResponse): string[][] {
  expect([status, headers.get("content-type")]).toEqual([200, "text/csv; charset=utf-8"]);
  return String(body)
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((line) => line.split(","));
}

describe("the export", () => {
  test("has every field of GET, and no cell is a formula", async () => {
    const { body, headers } = await h.get("/calls/export");
    expect(headers.get("content-disposition")).toContain("calls.csv");
    const [head, ...lines] = String(body).trimEnd().split("\n");
    expect(head).toMatch(/^id,createdAt,joinedAt,endedAt,direction,carrier,to,from,status,outcome,/);
    expect(lines).toHaveLength(all.length);
    for (const line of lines) expect(line).not.toMatch(/(^|,)"?[=+@\t\r-]/);
    expect(String(body)).toContain("'+14155550100");
    await h.owner`update calls set summary = ${'=HYPERLINK("http://evil.example","x")\n@SUM(1)'} where id = ${all[0]!.id}`;
    const again = String((await h.get("/calls/export")).body);
    expect(again).toContain(`"'=HYPERLINK(""http://evil.example"",""x"")`);
    for (const hidden of [" =1", "\n=1", "\r\n+1", "\ufeff=1", "\u200b@A", "\u202e-1", "\u00a0\uff1d1", "\t1"]) {
      await h.owner`update calls set summary = ${hidden} where id = ${all[0]!.id}`;
      expect(String((await h.get("/calls/export")).body)).toContain(`'${hidden}`);
    }
    await h.owner`update calls set summary = ${String(all[0]!.summary)} where id = ${all[0]!.id}`;
  });

  test("of many pages is complete and in order, with no open transaction between pages", async () => {
    await h.owner`
      insert into calls (client_id, id, agent_id, agent_version, direction, medium, status, variables, metadata,
        max_duration_seconds, join_timeout_seconds, recording_enabled, provider_account_id)
      select ${h.bob.clientId}, 'call_00' || lpad(i::text, 24, '0'), (select id from agents where client_id = ${h.bob.clientId} limit 1),
        1, 'web', 'web', 'failed', '{}', '{}', 60, 30, false, 'pacc_platform' from generate_series(1, 1750) i`;
    const { asClient } = h.deps.db;
    let open = 0;
    const openBefore: number[] = [];
    const watched: typeof asClient = async (entry, work, mode) => {
      if (entry.keyId !== h.bob.keyId) return asClient(entry, work, mode);
      openBefore.push(open++);
      return await asClient(entry, work, mode).finally(() => open--);
    };
    h.deps.db.asClient = watched;
    const response = await h.get("/calls/export?status=failed", { key: h.bob.key }).finally(() => {
      h.deps.db.asClient = asClient;
    });
    expect(openBefore).toEqual([0, 0, 0, 0]); // one for every 500 rows
    const ids = exported(response).map((row) => row[0]!);
    expect(ids).toHaveLength(1750);
    expect(ids).toEqual(ids.toSorted().reverse());
    expect(new Set(ids).size).toBe(1750);
    const exact = exported(
      await h.get(`/calls/export?status=failed&createdAfter=2026-01-01T00:00:00Z`, { key: h.bob.key }),
    );
    expect(exact).toEqual([]); // their ids have old timestamps
  });

  test("of more than 100,000 calls is refused, and nothing is sent", async () => {
    // In batches, since other tests on this server wait for every open transaction.
    for (let first = 1; first <= 100_001; first += 5_000) {
      await h.owner`
        insert into calls (client_id, id, agent_id, agent_version, direction, medium, status, variables, metadata,
          max_duration_seconds, join_timeout_seconds, recording_enabled, provider_account_id)
        select ${h.bob.clientId}, 'call_01' || lpad(i::text, 24, '0'), (select id from agents where client_id = ${h.bob.clientId} limit 1),
          1, 'outbound', 'sip', 'queued', '{}', '{}', 60, 30, false, 'pacc_platform'
        from generate_series(${first}::int, ${Math.min(first + 4_999, 100_001)}::int) i`;
    }
    await h.owner.unsafe("vacuum analyze calls");
    for (const query of ["", "?direction=outbound"]) {
      const refused = await h.get(`/calls/export${query}`, { key: h.bob.key });
      expect(refused).toMatchObject({ status: 422, body: { error: { code: "export_too_large" } } });
      expect(refused.body.error.message).toMatch(/createdAfter/);
    }
  }, 180_000);
});

describe("units", () => {
  test("search terms are lower case, whole, unique and of any script", () => {
    expect(searchTermsOf("Don't WORRY, worry — be   HAPPY! x ﬁne 2 42")).toEqual([
      "don",
      "worry",
      "be",
      "happy",
      "fine",
      "42",
    ]);
    expect(searchTermsOf("Grüße aus Köln, привет мир, 東京 हिन्दी")).toEqual([
      "grüße",
      "aus",
      "köln",
      "привет",
      "мир",
      "東京",
      "हिन्दी",
    ]);
    expect(searchTermsOf(`${"a".repeat(40)} ${"b".repeat(41)}`)).toEqual(["a".repeat(40)]);
    expect(searchableTerms(Array.from({ length: 900 }, (_, n) => `word${n} word0`))).toHaveLength(500);
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const words = searchTermsOf(text);
        expect(new Set(words).size).toBe(words.length);
        for (const word of words) expect(searchTermsOf(word)).toEqual([word]);
      }),
    );
  });

  test("cost lines add up exactly to the bill, at any price", () => {
    const price = fc.record({
      id: fc.constant(newId("price")),
      callMicrosPerMinute: fc.integer({ min: 0, max: 100_000_000 }),
      telephoneMicrosPerMinute: fc.integer({ min: 0, max: 100_000_000 }),
      roundingSeconds: fc.integer({ min: 1, max: 60 }),
      voiceCloneMicros: fc.constant(0),
    });
    const bill = fc.record({ billedSeconds: fc.nat(20_000), sipBilledSeconds: fc.nat(20_000) });
    fc.assert(
      fc.property(price, bill, (price, bill) => {
        const lines = costLines(price, bill);
        expect(lines.reduce((sum, { amountMicros }) => sum + amountMicros, 0)).toBe(billMicros(price, bill));
        const once = (seconds: number, rate: number) =>
          Math.ceil((Math.ceil(seconds / price.roundingSeconds) * price.roundingSeconds * rate) / 60);
        expect(billMicros(price, bill)).toBe(
          once(bill.billedSeconds, price.callMicrosPerMinute) +
            once(bill.sipBilledSeconds, price.telephoneMicrosPerMinute),
        );
        for (const { seconds, microsPerMinute, amountMicros } of lines) {
          expect(amountMicros).toBe(Math.ceil((seconds * microsPerMinute) / 60));
        }
      }),
    );
  });

  test("idFloor returns a valid id, between the ids created before and after its time", async () => {
    const before = newId("call");
    await new Promise((resolve) => setTimeout(resolve, 2));
    const floor = idFloor("call", new Date());
    expect(floor).toMatch(idPattern("call"));
    expect(before < floor).toBe(true);
    expect(floor < newId("call")).toBe(true);
    expect(idFloor("call", new Date(-5))).toMatch(idPattern("call"));
    expect(idFloor("call", new Date(8.64e15))).toMatch(idPattern("call"));
  });
});
