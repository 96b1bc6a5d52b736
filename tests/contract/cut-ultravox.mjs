// Cuts the provider's published openapi.json down to what we rely on, so that the difference between two versions of
// it is small enough to read. Run it with the path of the full document:  node tests/contract/cut-ultravox.mjs openapi.json
import { readFileSync, writeFileSync } from "node:fs";

const PATHS = [
  "/api/accounts/me",
  "/api/accounts/me/tts_api_keys",
  "/api/agents",
  "/api/agents/{agent_id}",
  "/api/agents/{agent_id}/calls",
  "/api/calls",
  "/api/calls/{call_id}",
  "/api/calls/{call_id}/messages",
  "/api/calls/{call_id}/recording",
  "/api/calls/{call_id}/send_data_message",
  "/api/corpora",
  "/api/corpora/{corpus_id}",
  "/api/corpora/{corpus_id}/query",
  "/api/corpora/{corpus_id}/sources",
  "/api/corpora/{corpus_id}/sources/{source_id}",
  "/api/corpora/{corpus_id}/sources/{source_id}/documents",
  "/api/corpora/{corpus_id}/uploads",
  "/api/sip",
  "/api/sip/registrations",
  "/api/sip/registrations/{registration_id}",
  "/api/telephony_configs/plivo",
  "/api/telephony_configs/telnyx",
  "/api/telephony_configs/twilio",
  "/api/tools",
  "/api/tools/{tool_id}",
  "/api/voices",
  "/api/voices/{voice_id}",
  "/api/voices/{voice_id}/preview",
  "/api/webhooks",
  "/api/webhooks/{webhook_id}",
];
const METHODS = ["get", "post", "put", "patch", "delete"];
const FACTS = [
  ...["type", "format", "enum", "pattern", "nullable", "readOnly", "writeOnly", "required", "default"],
  ...["minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"],
];

/** Keywords that change what a schema accepts. One that is neither here nor in FACTS stops the cut: it would be lost. */
const WORDS = ["description", "title", "example", "examples", "deprecated", "externalDocs"];

/**
 * Where the document is known to be narrower than the service. Each is one deliberate decision; the cut fails when the
 * document has changed under it.
 */
const amendments = [
  function aCallWithoutAnAgentHasNullForOne({ Call }) {
    expectShape(Call.properties.agent, { allOf: [{ $ref: "#/components/schemas/AgentBasic" }], readOnly: true });
    Call.properties.agent.nullable = true;
  },
  function dataMessagesHaveFieldsBesideTheirType(schemas) {
    expectShape(schemas.SendCallDataMessage, {
      type: "object",
      properties: { type: { type: "string" } },
      required: ["type"],
    });
    const message = (type, properties, required = []) => ({
      type: "object",
      properties: { type: { type: "string", enum: [type] }, ...properties },
      required: ["type", ...required],
    });
    const urgency = (...values) => ({ type: "string", enum: values });
    schemas.SendCallDataMessage = {
      oneOf: [
        message("hang_up", { message: { type: "string" } }),
        message("forced_agent_message", {
          content: { type: "string" },
          toolCalls: { type: "array", items: { type: "object" } },
          uninterruptible: { type: "boolean" },
          urgency: urgency("immediate", "soon"),
        }),
        message("user_text_message", { text: { type: "string" }, urgency: urgency("immediate", "soon", "later") }, [
          "text",
        ]),
      ],
    };
  },
];

function expectShape(found, expected) {
  if (JSON.stringify(sorted(found)) === JSON.stringify(sorted(expected))) return;
  throw new Error(`an amendment no longer fits the document: ${JSON.stringify(found)}`);
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}

function mapValues(object, cut) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, cut(value)]));
}

function cutDocument(document) {
  const schemas = {};

  function cutSchema(schema) {
    if (schema.$ref) return keep(schema.$ref);
    const result = {};
    for (const [key, value] of Object.entries(schema)) {
      if (FACTS.includes(key)) result[key] = value;
      else if (key === "properties") result.properties = mapValues(value, cutSchema);
      else if (key === "items") result.items = cutSchema(value);
      else if (key === "additionalProperties") {
        result.additionalProperties = typeof value === "boolean" ? value : cutSchema(value);
      } else if (["allOf", "oneOf", "anyOf"].includes(key)) result[key] = value.map(cutSchema);
      else if (!WORDS.includes(key) && !key.startsWith("x-")) throw new Error(`unknown schema keyword: ${key}`);
    }
    return result;
  }

  function keep($ref) {
    const name = $ref.slice("#/components/schemas/".length);
    if (!(name in schemas)) {
      const schema = document.components.schemas[name];
      if (!schema) throw new Error(`the document has no schema ${name}`);
      schemas[name] = {}; // holds the place, so that a schema that refers to itself ends
      schemas[name] = cutSchema(schema);
    }
    return { $ref };
  }

  const cutContent = (content) => mapValues(content ?? {}, (media) => ({ schema: cutSchema(media.schema) }));

  function cutOperation(operation) {
    const { parameters = [], requestBody, responses } = operation;
    return {
      parameters: parameters.map(({ name, in: place, required = false, schema }) => ({
        name,
        in: place,
        required,
        schema: cutSchema(schema),
      })),
      ...(requestBody && {
        requestBody: { required: requestBody.required ?? false, content: cutContent(requestBody.content) },
      }),
      responses: mapValues(responses, (response) =>
        response.content ? { content: cutContent(response.content) } : {},
      ),
    };
  }

  const paths = {};
  for (const path of PATHS) {
    const item = document.paths[path];
    if (!item) throw new Error(`the document has no path ${path}`);
    paths[path] = {};
    for (const method of METHODS) if (item[method]) paths[path][method] = cutOperation(item[method]);
  }
  for (const amend of amendments) amend(schemas);
  const { title, version } = document.info;
  return { openapi: document.openapi, info: { title, version }, paths, components: { schemas: sorted(schemas) } };
}

const source = process.argv[2];
if (!source) throw new Error("usage: node tests/contract/cut-ultravox.mjs <path of the full openapi.json>");
const cut = cutDocument(JSON.parse(readFileSync(source, "utf8")));
writeFileSync(new URL("ultravox.json", import.meta.url), `${JSON.stringify(cut, null, 1)}\n`);
