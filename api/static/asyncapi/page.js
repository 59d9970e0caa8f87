"use strict";
// Shows /asyncapi.json: a section a topic, an entry an event type, with its fields and an example.
const topics = document.getElementById("topics");
const find = document.getElementById("find");
const about = document.getElementById("about");

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// Text as nodes: what stands between backticks is code.
function prose(text) {
  return text.split(/`([^`]+)`/).map((part, n) => (n % 2 ? element("code", part) : part));
}

function typeOf(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) {
    const kinds = schema.anyOf.map(typeOf);
    const exact = kinds.includes("number") && kinds.includes("string");
    const rest = exact ? ["decimal", ...kinds.filter((kind) => kind === "null")] : kinds;
    return rest.join(" | ");
  }
  if (!schema.type) return "any JSON";
  const kinds = [].concat(schema.type).map((kind) => {
    if (kind === "array") return `list of ${typeOf(schema.items)}`;
    return kind === "string" && schema.format ? schema.format : kind;
  });
  return kinds.join(" | ");
}

function limitsOf(schema) {
  const names = { minLength: "at least", maxLength: "at most", minimum: "≥", exclusiveMinimum: ">",
    maximum: "≤", exclusiveMaximum: "<", minItems: "at least", maxItems: "at most", pattern: "matches" };
  const of = schema.anyOf ? schema.anyOf[0] : schema;
  const told = Object.keys(names)
    .filter((name) => of[name] !== undefined && Math.abs(of[name]) !== 2 ** 63)
    .map((name) => `${names[name]} ${of[name]}`);
  if (schema.default !== undefined) told.push(`default ${JSON.stringify(schema.default)}`);
  return told.join(", ");
}

function rowsOf(schema, prefix) {
  const required = new Set(schema.required || []);
  return Object.entries(schema.properties || {}).flatMap(([name, field]) => {
    const path = prefix ? `${prefix}.${name}` : name;
    const row = element("tr", "", element("td", path), element("td", typeOf(field)),
      element("td", required.has(name) ? "required" : ""), element("td", limitsOf(field)));
    const inner = field.type === "array" ? [field.items, `${path}[]`] : [field, path];
    return [row, ...(inner[0] && inner[0].properties ? rowsOf(inner[0], inner[1]) : [])];
  });
}

function exampleOf(schema, name) {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return exampleOf(schema.anyOf[0], name);
  const kind = [].concat(schema.type || "any")[0];
  if (kind === "object") {
    const fields = Object.entries(schema.properties || {});
    return Object.fromEntries(fields.map(([key, field]) => [key, exampleOf(field, key)]));
  }
  if (kind === "array") return [exampleOf(schema.items, name)];
  if (kind === "integer" || kind === "number") return Math.max(schema.minimum || 0, 1);
  if (kind === "boolean") return true;
  if (kind === "any") return null;
  const texts = { "date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", uuid: "0198c0de-0000-7000-8000-000000000001" };
  return texts[schema.format] || name;
}

// A subject as it could be of the example's data: of the field that has the entity's name, else of the first one required.
function subjectOf(type, schema, data) {
  const entity = type.split(".")[1];
  const names = [entity, `${entity}_id`, ...(schema.required || [])];
  const name = names.find((each) => ["string", "number"].includes(typeof data[each]));
  return name ? String(data[name]) : "1";
}

function messageOf(message) {
  const data = message.payload.properties.data;
  const table = element("table", "", element("thead", "", element("tr", "",
    ...["field", "type", "", "limits"].map((title) => element("th", title)))), element("tbody", "", ...rowsOf(data, "")));
  const given = exampleOf(data, "");
  const example = { specversion: "1.0", id: "…", source: "/…", type: message.name,
    subject: subjectOf(message.name, data, given), time: "2026-01-31T12:00:00Z", data: given };
  const entry = element("details", "", element("summary", "", element("code", message.name)));
  entry.dataset.words = [message.name, ...Object.keys(data.properties || {})].join(" ").toLowerCase();
  if (message["x-superseded-by"]) entry.firstChild.append(element("em", ` superseded by ${message["x-superseded-by"]}`));
  else if (message.summary) entry.firstChild.append(element("span", "", " ", ...prose(message.summary)));
  entry.append(table, element("pre", JSON.stringify(example, null, 2)));
  return entry;
}

function show(contracts) {
  const own = ([name]) => Number(name === "mesh.events"); // those of the mesh itself come last
  const channels = Object.entries(contracts.channels).sort((one, other) => own(one) - own(other));
  const sections = channels.map(([, channel]) => {
    const messages = Object.keys(channel.messages).map((type) => messageOf(contracts.components.messages[type]));
    return element("section", "", element("h2", channel.address), ...messages);
  });
  topics.replaceChildren(...sections);
  const count = Object.keys(contracts.components.messages).length;
  tell(count
    ? `${count} types of events on ${sections.length} topics. The same as a document: /asyncapi.json`
    : "You may see no contracts: use a token whose role is granted `contracts`, or `publish:` a service.");
}

function tell(text) {
  about.replaceChildren(...prose(text));
}

find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const entry of topics.querySelectorAll("details")) {
    entry.hidden = !words.every((word) => entry.dataset.words.includes(word));
  }
  for (const section of topics.querySelectorAll("section")) {
    section.hidden = !section.querySelector("details:not([hidden])");
  }
});

async function load(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const answer = await fetch("/asyncapi.json", { headers });
    const body = await answer.json();
    if (answer.ok) show(body);
    else tell(`${body.detail} ${body.remedy}`);
  } catch (error) {
    tell(`The document could not be read: ${error}`);
  }
}

document.getElementById("who").addEventListener("submit", (event) => {
  event.preventDefault();
  load(document.getElementById("token").value.trim());
});
load("");
