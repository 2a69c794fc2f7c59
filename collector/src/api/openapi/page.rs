//! `/api/docs`: the description of this API as a page, without scripts or anything from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};

use super::super::page::{escape, head, html, sign_in};
use super::super::{AppState, auth};
use super::openapi;

/// How deep a shape is written out; deeper ones are named.
const DEPTH_MAX: usize = 6;
const REFERENCE: &str = "#/components/schemas/";

static PAGE: LazyLock<String> = LazyLock::new(|| serde_json::from_str(openapi()).map(|d| page(&d)).unwrap_or_default());

/// This description, for people; or a form to sign in.
#[utoipa::path(get, path = "/api/docs", tag = "Collector", responses(
    (status = 200, description = "The page", content_type = "text/html", body = String),
    (status = 401, description = "A form to sign in", content_type = "text/html", body = String),
))]
pub(in super::super) async fn docs(axum::extract::State(shared): AppState, headers: HeaderMap) -> Response {
    match auth::identify(&shared.app.access, &headers, &Method::GET) {
        Ok(_) => html(StatusCode::OK, &PAGE),
        Err(_) => html(StatusCode::UNAUTHORIZED, &sign_in()),
    }
}

/// One way of asking: its path, its method, and what is said of it.
struct Way<'d> {
    path: &'d str,
    method: &'d str,
    said: &'d Value,
}

fn page(document: &Value) -> String {
    let mut ways: Vec<Way<'_>> = Vec::new();
    for (path, item) in object(&document["paths"]) {
        ways.extend(object(item).map(|(method, said)| Way { path, method, said }));
    }
    let mut tags: Vec<&str> = ways.iter().map(|way| tag(way)).collect();
    tags.sort_unstable();
    tags.dedup();
    let info = &document["info"];
    let mut out = head("Pitwatch: the HTTP API");
    let _ = write!(out, "<h1>{} {}</h1>", text(&info["title"]), text(&info["version"]));
    let _ = write!(out, "<p>{}</p>", prose(&info["description"]));
    out.push_str("<p>For programs: <a href=\"/api/v1/openapi.json\">openapi.json</a></p>");
    for name in tags {
        let _ = write!(out, "<h2>{}</h2>", escape(name));
        ways.iter().filter(|way| tag(way) == name).for_each(|way| push_way(&mut out, way, document));
    }
    out
}

fn tag<'d>(way: &Way<'d>) -> &'d str {
    way.said["tags"][0].as_str().unwrap_or("Other")
}

fn push_way(out: &mut String, way: &Way<'_>, document: &Value) {
    let said = way.said;
    let (id, method) = (text(&said["operationId"]), way.method.to_uppercase());
    let _ = write!(
        out,
        "<details id=\"{id}\"><summary><code>{method} {}</code> {}</summary>",
        escape(way.path),
        prose(&said["summary"])
    );
    if said["description"].is_string() {
        let _ = write!(out, "<p>{}</p>", prose(&said["description"]));
    }
    if let Some(parameters) = said["parameters"].as_array().filter(|all| !all.is_empty()) {
        out.push_str("<table><tr><th>Parameter<th>In<th>Type<th>What");
        for parameter in parameters {
            let needed = if parameter["required"] == true { "" } else { " (optional)" };
            let kind = shape(&parameter["schema"], document, DEPTH_MAX);
            let cells = [&text(&parameter["name"]), &text(&parameter["in"]), &escape(&kind)];
            let _ = write!(out, "<tr><td><code>{}</code>{needed}<td>{}<td>{}", cells[0], cells[1], cells[2]);
            let _ = write!(out, "<td>{}", prose(&parameter["description"]));
        }
        out.push_str("</table>");
    }
    push_contents(out, "Body", &said["requestBody"], document);
    for (status, response) in object(&said["responses"]) {
        push_contents(out, status, response, document);
    }
    out.push_str("</details>");
}

fn push_contents(out: &mut String, title: &str, of: &Value, document: &Value) {
    if of.is_null() {
        return;
    }
    let _ = write!(out, "<h3>{} {}</h3>", escape(title), prose(&of["description"]));
    for (kind, content) in object(&of["content"]) {
        // A refusal has the same shape everywhere: the head of the page shows it.
        let schema = &content["schema"];
        if schema["$ref"].as_str().is_some_and(|name| name.ends_with("/Failure")) {
            continue;
        }
        let _ = write!(out, "<p>{}</p><pre>{}</pre>", escape(kind), escape(&shape(schema, document, 0)));
    }
}

/// A schema in short: `{"name": string, "since_ms": integer?}`, with what is said of each part behind it.
fn shape(schema: &Value, document: &Value, depth: usize) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(REFERENCE)) {
        return match depth < DEPTH_MAX {
            true => shape(&document["components"]["schemas"][name], document, depth),
            false => name.to_owned(),
        };
    }
    for (key, between) in [("oneOf", " | "), ("anyOf", " | "), ("allOf", " & ")] {
        if let Some(all) = schema[key].as_array() {
            let parts: Vec<String> = all.iter().map(|one| shape(one, document, depth)).collect();
            return parts.join(between);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(parts) = schema["prefixItems"].as_array() {
        let parts: Vec<String> = parts.iter().map(|one| shape(one, document, depth)).collect();
        return format!("[{}]", parts.join(", "));
    }
    if schema["items"].is_object() {
        return format!("[{}, …]", shape(&schema["items"], document, depth));
    }
    if let Some(properties) = schema["properties"].as_object() {
        return fields(properties, &schema["required"], document, depth);
    }
    if schema["additionalProperties"].is_object() {
        return format!("{{…: {}}}", shape(&schema["additionalProperties"], document, depth + 1));
    }
    match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        _ => "anything".to_owned(),
    }
}

fn fields(properties: &Map<String, Value>, required: &Value, document: &Value, depth: usize) -> String {
    let inner = "  ".repeat(depth + 1);
    let needed = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let mut out = String::from("{\n");
    for (name, schema) in properties {
        let optional = if needed(name) { "" } else { "?" };
        let _ = write!(out, "{inner}\"{name}\"{optional}: {}", shape(schema, document, depth + 1));
        if let Some(said) = schema["description"].as_str() {
            let _ = write!(out, "  // {}", said.replace('\n', " "));
        }
        out.push('\n');
    }
    let _ = write!(out, "{}}}", "  ".repeat(depth));
    out
}

fn object(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// Prose in which what is between backticks is code.
fn prose(value: &Value) -> String {
    let mut out = String::new();
    for (at, part) in value.as_str().unwrap_or_default().split('`').enumerate() {
        let part = escape(part);
        match at % 2 {
            0 => out.push_str(&part.replace("\n\n", "<br>")),
            _ => {
                let _ = write!(out, "<code>{part}</code>");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_written_out() {
        let document = serde_json::json!({ "components": { "schemas": { "Point": {
            "type": "array", "prefixItems": [{ "type": "number" }, { "type": "string" }] } } } });
        let schema = serde_json::json!({ "type": "object", "required": ["a"], "properties": {
            "a": { "type": "array", "items": { "$ref": "#/components/schemas/Point" }, "description": "Of <it>" },
            "b": { "type": ["integer", "null"] } } });
        assert_eq!(
            shape(&schema, &document, 0),
            "{\n  \"a\": [[number, string], …]  // Of <it>\n  \"b\"?: integer | null\n}"
        );
        assert_eq!(prose(&Value::from("see `a<b>`\n\nand")), "see <code>a&lt;b&gt;</code><br>and");
    }
}
