//! The description of this API by OpenAPI 3.1, made from its code: `/api/v1/openapi.json`, and as a page `/api/docs`.
//!
//! Handlers say with `#[utoipa::path]` where they are, what they take and what they answer, and the router is built from
//! the same; what all have in common is added here. [`parameters`] and [`shapes`] describe what no type of the code does;
//! `page` writes the document for people.
//!
//! A new endpoint: `#[utoipa::path(get, path = "…", tag = "…", params(…), responses((status = 200, body = Success<T>)))]`
//! above its handler, `ToSchema` derived for `T` and what it holds, and `routes!(module::handler)` in the group of its role
//! in [`super`]. Name and refusals are added by themselves. What GET and POST take alike is
//! `method(get, post)`.

pub(super) mod page;
pub(super) mod parameters;
pub(super) mod shapes;

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::auth::SESSION_COOKIE;
use super::envelope::{Failure, JSON};
use crate::access::Role;

const TITLE: &str = "Pitwatch collector";
const DESCRIPTION: &str = "\
`/api/v1/…` is Prometheus' API over Pitwatch's history, `/api/v1/pitwatch/…` is the collector's own. A token is needed for \
everything but health: as a bearer, as the password of a basic login with any user, or as the cookie of a session. Answers \
are `{\"status\":\"success\",\"data\":…}` or `{\"status\":\"error\",\"errorType\":…,\"error\":…}`. Names in the \
collector's own answers end in their unit; `_ms` is since 1970 or a length. Fields may be added: leave alone what you do \
not know. Limits and the rest: docs/reference/http-api.md.";
const FORM: &str = "application/x-www-form-urlencoded";

/// The document, and what it is as text.
static DOCUMENT: LazyLock<(OpenApi, String)> = LazyLock::new(|| {
    let document = assemble();
    // Its keys are text: it can always be written.
    let text = serde_json::to_string(&document).unwrap_or_default();
    (document, text)
});

/// The description of the whole API as JSON.
#[must_use]
pub fn openapi() -> &'static str {
    &DOCUMENT.1
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "Collector",
    responses((status = 200, description = "The document", content_type = "application/json", body = Object)))]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, JSON)], openapi())
}

fn assemble() -> OpenApi {
    let info =
        InfoBuilder::new().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(DESCRIPTION)).build();
    let http = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
    let components = ComponentsBuilder::new()
        .security_scheme("bearer", http(HttpAuthScheme::Bearer))
        .security_scheme("basic", http(HttpAuthScheme::Basic))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE))))
        .schema(Failure::name(), Failure::schema())
        .build();
    let mut document = OpenApiBuilder::new().info(info).components(Some(components)).build();
    for (role, group) in super::groups() {
        let mut group = group.into_openapi();
        for (path, item) in &mut group.paths.paths {
            operations(item).for_each(|(method, operation)| complete(operation, method, path, role));
        }
        document.merge(group);
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [("get", &mut item.get), ("post", &mut item.post), ("put", &mut item.put), ("delete", &mut item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds what follows from where an operation is: its name, its role, and how it refuses.
fn complete(operation: &mut Operation, method: &str, path: &str, role: Option<Role>) {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !matches!(*word, "" | "api" | "v1"));
    operation.operation_id = Some([method].into_iter().chain(words).collect::<Vec<_>>().join("_"));
    if method == "post" && operation.request_body.is_none() {
        post_form(operation);
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            "The answer".clone_into(&mut response.description);
        }
    }
    let takes = operation.request_body.is_some() || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let mut refuse = |status: &str, what: String| {
        let failure = || failure(&what);
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| failure().into());
    };
    if takes {
        refuse("400", "A parameter or the body is wrong".to_owned());
    }
    if let Some(role) = role {
        refuse("401", "No token, or one that is not valid".to_owned());
        refuse("403", format!("The token's role is not enough: {role} is needed"));
        let schemes = ["bearer", "basic", "session"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
        operation.security = Some(schemes.into());
        let needs = format!("Needs the role {role}.");
        let said = operation.description.take();
        operation.description = Some(said.map_or(needs.clone(), |said| format!("{said}\n\n{needs}")));
    }
    refuse(
        "default",
        "Any other refusal: a limit (408, 413), not now (503), or a fault of the collector (500)".to_owned(),
    );
}

fn failure(what: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(Failure::name())));
    ResponseBuilder::new().description(what).content(JSON, content).build()
}

/// What a GET takes in its address a POST takes as a form, too; the description names the form.
fn post_form(operation: &mut Operation) {
    let in_address = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => false,
    };
    let all = operation.parameters.take().unwrap_or_default();
    let (fields, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(in_address);
    operation.parameters = Some(rest).filter(|rest| !rest.is_empty());
    let mut form = ObjectBuilder::new();
    for field in fields.iter().filter_map(|field| if let RefOr::T(field) = field { Some(field) } else { None }) {
        if field.required == Required::True {
            form = form.required(&field.name);
        }
        form = form.property(&field.name, said(field.schema.clone().unwrap_or_default(), &field.description));
    }
    if !fields.is_empty() {
        // All of it may be in the address, too.
        let body = RequestBodyBuilder::new().content(FORM, Content::new(Some(form))).required(Some(Required::False));
        operation.request_body = Some(body.build().into());
    }
}

/// The schema with what is said of its parameter.
fn said(mut schema: RefOr<Schema>, what: &Option<String>) -> RefOr<Schema> {
    match &mut schema {
        RefOr::T(Schema::Object(object)) => object.description.clone_from(what),
        RefOr::T(Schema::Array(array)) => array.description.clone_from(what),
        RefOr::T(Schema::OneOf(one_of)) => one_of.description.clone_from(what),
        _ => {}
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn each_route_is_described_and_each_description_has_its_route() {
        let (mut routes, mut described) = (BTreeSet::new(), BTreeSet::new());
        for (_, group) in super::super::groups() {
            let (router, document) = group.split_for_parts();
            // Axum tells its routes only so; a form that it no longer has fails here, too.
            let text = format!("{router:?}");
            let quoted = text.split('"').skip(1).step_by(2);
            let is_ours = |text: &&str| text.starts_with('/') && !text.contains("__private__axum");
            routes.extend(quoted.filter(is_ours).map(str::to_owned));
            described.extend(document.paths.paths.into_keys());
        }
        assert_eq!(routes, described);
    }
}
