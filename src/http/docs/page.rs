//! What the page shows, out of the OpenAPI document.

use askama::Template;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{Components, Content, OpenApi, RefOr, Required, Schema};

use super::curl;
use super::words::{Piece, kind, named, prose};

/// The whole page.
#[derive(Template)]
#[template(path = "docs.html")]
pub(super) struct Page {
    css: &'static str,
    about: Vec<Piece>,
    version: String,
    open: bool,
    groups: Vec<Group>,
    refusals: Vec<Refusal>,
    types: Vec<Named>,
}

struct Group {
    name: String,
    about: Vec<Piece>,
    routes: Vec<Route>,
}

struct Route {
    id: String,
    method: &'static str,
    path: String,
    title: String,
    about: Vec<Piece>,
    is_open: bool,
    parameters: Vec<Row>,
    body: Vec<Piece>,
    curl: String,
    answers: Vec<Answer>,
    refusals: Vec<String>,
}

/// A field or a parameter.
struct Row {
    name: String,
    place: &'static str,
    required: bool,
    kind: Vec<Piece>,
    about: Vec<Piece>,
}

struct Answer {
    status: String,
    about: Vec<Piece>,
    kind: Vec<Piece>,
    example: Option<String>,
}

struct Refusal {
    status: String,
    about: Vec<Piece>,
    messages: Vec<Vec<Piece>>,
}

struct Named {
    name: String,
    about: Vec<Piece>,
    kind: Vec<Piece>,
    pattern: Option<String>,
    rows: Vec<Row>,
}

impl Page {
    pub(super) fn of(document: &OpenApi, css: &'static str, base: &str, open: bool) -> Self {
        let none = Components::new();
        let components = document.components.as_ref().unwrap_or(&none);
        Self {
            css,
            about: said(&document.info.description),
            version: document.info.version.clone(),
            open,
            groups: groups(document, base, open),
            refusals: components.responses.iter().filter_map(|(status, of)| refusal(status, of)).collect(),
            types: components
                .schemas
                .iter()
                .map(|(name, schema)| of_type(name, schema, components))
                .collect(),
        }
    }
}

/// In the order of the document's tags.
fn groups(document: &OpenApi, base: &str, open: bool) -> Vec<Group> {
    let routes = |tag: &str| -> Vec<Route> {
        let mut routes = Vec::new();
        for (path, item) in &document.paths.paths {
            let methods = [("POST", &item.post), ("GET", &item.get), ("PATCH", &item.patch)];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                if operation.tags.iter().flatten().any(|name| name == tag) {
                    routes.push(route(method, path, operation, base, open));
                }
            }
        }
        routes
    };
    let tags = document.tags.iter().flatten();
    tags.map(|tag| Group { name: tag.name.clone(), about: said(&tag.description), routes: routes(&tag.name) })
        .collect()
}

fn route(method: &'static str, path: &str, operation: &Operation, base: &str, open: bool) -> Route {
    let is_open = operation.security.is_none();
    let content = operation.request_body.as_ref().and_then(|body| body.content.values().next());
    let mut answers = Vec::new();
    let mut refusals = Vec::new();
    for (status, response) in &operation.responses.responses {
        match response {
            RefOr::Ref(_) => refusals.push(status.clone()),
            RefOr::T(response) => {
                let content = response.content.values().next();
                answers.push(Answer {
                    status: status.clone(),
                    about: prose(&response.description),
                    kind: content.map(kind_of).unwrap_or_default(),
                    example: content.and_then(pretty),
                });
            }
        }
    }
    let parameters: Vec<&Parameter> = operation.parameters.iter().flatten().collect();
    Route {
        id: operation.operation_id.clone().unwrap_or_default(),
        method,
        path: path.to_owned(),
        title: operation.summary.clone().unwrap_or_default(),
        about: said(&operation.description),
        is_open,
        curl: curl::line(
            method,
            &format!("{base}{path}"),
            &parameters,
            content.and_then(pretty),
            !is_open && !open,
        ),
        parameters: parameters.into_iter().map(parameter).collect(),
        body: content.map(kind_of).unwrap_or_default(),
        answers,
        refusals,
    }
}

fn parameter(parameter: &Parameter) -> Row {
    Row {
        name: parameter.name.clone(),
        place: match parameter.parameter_in {
            ParameterIn::Query => "query",
            ParameterIn::Path => "path",
            ParameterIn::Header => "header",
            ParameterIn::Cookie => "cookie",
        },
        required: parameter.required == Required::True,
        kind: parameter.schema.as_ref().map(kind).unwrap_or_default(),
        about: said(&parameter.description),
    }
}

fn said(text: &Option<String>) -> Vec<Piece> {
    prose(text.as_deref().unwrap_or_default())
}

fn kind_of(content: &Content) -> Vec<Piece> {
    content.schema.as_ref().map(kind).unwrap_or_default()
}

fn pretty(content: &Content) -> Option<String> {
    serde_json::to_string_pretty(content.example.as_ref()?).ok()
}

fn refusal(status: &str, response: &RefOr<utoipa::openapi::Response>) -> Option<Refusal> {
    let RefOr::T(response) = response else { return None };
    let examples = response.content.values().flat_map(|content| content.examples.values());
    let message = |example: &RefOr<utoipa::openapi::example::Example>| match example {
        RefOr::T(example) => Some(prose(&example.summary)),
        RefOr::Ref(_) => None,
    };
    Some(Refusal {
        status: status.to_owned(),
        about: prose(&response.description),
        messages: examples.filter_map(message).collect(),
    })
}

fn of_type(name: &str, schema: &RefOr<Schema>, components: &Components) -> Named {
    let rows = fields(schema, components);
    let (about, pattern) = match schema {
        RefOr::T(Schema::Object(object)) => (object.description.clone(), object.pattern.clone()),
        RefOr::T(Schema::AnyOf(some)) => (some.description.clone(), None),
        RefOr::T(Schema::AllOf(all)) => (all.description.clone(), None),
        _ => (None, None),
    };
    Named {
        name: name.to_owned(),
        about: said(&about),
        kind: if rows.is_empty() { kind(schema) } else { Vec::new() },
        pattern,
        rows,
    }
}

/// Those of an object, also when it is put together of several.
fn fields(schema: &RefOr<Schema>, components: &Components) -> Vec<Row> {
    match schema {
        RefOr::Ref(to) => {
            let found = components.schemas.get(named(&to.ref_location));
            found.map(|schema| fields(schema, components)).unwrap_or_default()
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter().flat_map(|item| fields(item, components)).collect(),
        RefOr::T(Schema::Object(object)) => {
            let row = |(name, schema): (&String, &RefOr<Schema>)| Row {
                name: name.clone(),
                place: "",
                required: object.required.contains(name),
                kind: kind(schema),
                about: prose(&about(schema)),
            };
            object.properties.iter().map(row).collect()
        }
        RefOr::T(_) => Vec::new(),
    }
}

/// What is said of a field stands beside its type, or beside the one that is not null.
fn about(schema: &RefOr<Schema>) -> String {
    match schema {
        RefOr::Ref(to) => to.description.clone(),
        RefOr::T(Schema::Object(object)) => object.description.clone().unwrap_or_default(),
        RefOr::T(Schema::Array(array)) => array.description.clone().unwrap_or_default(),
        RefOr::T(Schema::OneOf(some)) => {
            some.items.iter().map(about).find(|text| !text.is_empty()).unwrap_or_default()
        }
        RefOr::T(_) => String::new(),
    }
}
