//! The admin API as one table: what is served, and the OpenAPI document of it, from the same lines.
//!
//! A line of the table is a path, a sentence, the statuses with which its handler may refuse, and the handler. What the
//! document says of parameters, bodies and answers is read off the *types* of that handler (`Input`, `Answer`) with
//! the derives that parse and write them. So nothing is served that the document does not tell of.
//!
//! The document is OpenAPI 3.1 (its schemas are JSON Schema 2020-12), made when it is first asked for.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use axum::extract::{DefaultBodyLimit, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Asked;
use super::api::{Problem, Refused};
use super::by::By;
use super::guard;

/// The table: routes for everybody, and routes that are guarded at the address.
pub(super) struct Api {
    pub(super) open: Router<Arc<Asked>>,
    pub(super) guarded: Router<Arc<Asked>>,
    lines: Vec<Line>,
}

type Text = &'static str;
type Statuses = &'static [u16];

struct Line {
    method: Text,
    path: Text,
    summary: Text,
    /// Statuses with which the handler refuses, beside those of its inputs.
    refusals: Statuses,
    is_open: bool,
    describe: fn(&mut Operation<'_>),
}

impl Api {
    pub(super) fn new() -> Self {
        Self {
            open: Router::new(),
            guarded: Router::new(),
            lines: Vec::new(),
        }
    }

    /// What another module serves.
    pub(super) fn with(self, routes: impl FnOnce(Self) -> Self) -> Self {
        routes(self)
    }

    /// Something to ask for. It changes nothing, ever.
    pub(super) fn get<H, T, D>(self, path: Text, summary: Text, refusals: Statuses, handler: H) -> Self
    where
        H: Handler<T, Arc<Asked>> + Described<D>,
        T: 'static,
    {
        self.guard::<H, D>("get", path, summary, refusals, get(handler))
    }

    /// Something to tell.
    pub(super) fn post<H, T, D>(self, path: Text, summary: Text, refusals: Statuses, handler: H) -> Self
    where
        H: Handler<T, Arc<Asked>> + Described<D>,
        T: 'static,
    {
        let as_json = post(handler).route_layer(from_fn(guard::said_to_be_json));
        self.guard::<H, D>("post", path, summary, refusals, as_json)
    }

    /// The same with a body of up to so many bytes.
    pub(super) fn post_up_to<H, T, D>(
        self,
        most: usize,
        path: Text,
        summary: Text,
        refusals: Statuses,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Asked>> + Described<D>,
        T: 'static,
    {
        let as_json = post(handler).route_layer(from_fn(guard::said_to_be_json));
        let large = as_json.layer(DefaultBodyLimit::max(most));
        self.guard::<H, D>("post", path, summary, refusals, large)
    }

    /// Something to end.
    pub(super) fn delete<H, T, D>(self, path: Text, summary: Text, refusals: Statuses, handler: H) -> Self
    where
        H: Handler<T, Arc<Asked>> + Described<D>,
        T: 'static,
    {
        self.guard::<H, D>("delete", path, summary, refusals, delete(handler))
    }

    /// Something that everybody may ask for, without a token too.
    pub(super) fn get_open<H, T, D>(mut self, path: Text, summary: Text, handler: H) -> Self
    where
        H: Handler<T, Arc<Asked>> + Described<D>,
        T: 'static,
    {
        self.open = self.open.route(path, get(handler));
        self.line::<H, D>("get", path, summary, &[], true)
    }

    fn guard<H: Described<D>, D>(
        mut self,
        method: Text,
        path: Text,
        summary: Text,
        refusals: Statuses,
        served: MethodRouter<Arc<Asked>>,
    ) -> Self {
        self.guarded = self.guarded.route(path, served);
        self.line::<H, D>(method, path, summary, refusals, false)
    }

    fn line<H: Described<D>, D>(
        mut self,
        method: Text,
        path: Text,
        summary: Text,
        refusals: Statuses,
        is_open: bool,
    ) -> Self {
        self.lines.push(Line {
            method,
            path,
            summary,
            refusals,
            is_open,
            describe: H::describe,
        });
        self
    }

    /// What can be asked for and told, for who has asked for something else.
    pub(super) fn help(&self) -> String {
        let mut help = String::new();
        for line in &self.lines {
            let method = match line.method {
                "get" => "",
                "post" => "POST ",
                _ => "DELETE ",
            };
            // Writing to a String cannot fail.
            let _ = write!(help, "{method}{}, ", line.path);
        }
        format!("there are {help}and /v1/openapi.json tells of them all")
    }

    /// The document, as JSON.
    fn document(&self) -> String {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut schemas = settings.into_generator();
        let mut paths = Map::new();
        for line in &self.lines {
            let operation = line.operation(&mut schemas);
            let path = paths.entry(line.path).or_insert_with(|| json!({}));
            path[line.method] = operation;
        }
        let refusals = refusals(&mut schemas);
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "greenroom",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": "What a greenroom that runs can be asked and told: on its admin socket, and at admin.address",
                "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
            },
            "paths": paths,
            "components": {
                "responses": refusals,
                "schemas": schemas.take_definitions(true),
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "admin.token of the configuration, at admin.address; the socket asks for none",
                    },
                },
            },
        });
        // Strings, numbers and lists: it cannot fail.
        serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
    }
}

/// The document of the whole table, as JSON.
#[must_use]
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| super::api::table().document())
}

/// This document: its answer may be anything that is JSON.
pub(super) struct This;

impl axum::response::IntoResponse for This {
    fn into_response(self) -> axum::response::Response {
        ([(axum::http::header::CONTENT_TYPE, "application/json")], document()).into_response()
    }
}

impl Answer for This {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer(
            200,
            "an OpenAPI 3.1 document",
            "application/json",
            &json!({ "type": "object" }),
        );
    }
}

pub(super) async fn this() -> This {
    This
}

impl Line {
    fn operation(&self, schemas: &mut SchemaGenerator) -> Value {
        let mut operation = Operation {
            path: self.path,
            schemas,
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
        };
        (self.describe)(&mut operation);
        for status in self.refusals {
            operation.refuses(*status);
        }
        if !self.is_open {
            for status in [401, 403, 429] {
                operation.refuses(status);
            }
        }
        let mut value = json!({
            "operationId": format!("{}{}", self.method, self.path.replace(['/', '{', '}', '.'], "_")),
            "summary": self.summary,
            "responses": operation.answers,
        });
        if !operation.parameters.is_empty() {
            value["parameters"] = operation.parameters.into();
        }
        if let Some(body) = operation.body {
            value["requestBody"] = body;
        }
        if !self.is_open {
            value["security"] = json!([{}, { "token": [] }]);
        }
        value
    }
}

/// One operation of the document, as it is being described.
pub(super) struct Operation<'s> {
    pub(super) path: &'static str,
    pub(super) schemas: &'s mut SchemaGenerator,
    parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    answers: Map<String, Value>,
}

impl Operation<'_> {
    /// It answers so, or as was said before in another kind of text.
    pub(super) fn answer(&mut self, status: u16, about: &str, kind: &str, schema: &Value) {
        let answer = (self.answers.entry(status.to_string())).or_insert_with(|| json!({ "content": {} }));
        answer["description"] = about.into();
        answer["content"][kind] = json!({ "schema": schema });
    }

    /// It takes this.
    pub(super) fn parameter(&mut self, parameter: Value) {
        self.parameters.push(parameter);
    }

    /// A type, kept among the document's schemas.
    pub(super) fn schema<T: JsonSchema>(&mut self) -> Value {
        self.schemas.subschema_for::<T>().to_value()
    }

    /// It may refuse with this status, and a [`Problem`].
    pub(super) fn refuses(&mut self, status: u16) {
        let answer = json!({ "$ref": format!("#/components/responses/{status}") });
        self.answers.insert(status.to_string(), answer);
    }
}

/// What is answered to who is refused.
const REFUSALS: [(u16, &str); 10] = [
    (400, "The path or the body cannot be read"),
    (401, "At the address: no token, or a wrong one"),
    (
        403,
        "At the address: a browser's request, or another Host than this address",
    ),
    (404, "There is no such thing"),
    (409, "It cannot be done as things stand"),
    (413, "The body is too large"),
    (415, "The body is not said to be application/json"),
    (422, "A value makes no sense here"),
    (429, "Too much of this is under way, or too many wrong tokens came"),
    (503, "It cannot be served now"),
];

fn refusals(schemas: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = schemas.subschema_for::<Problem>().to_value();
    let one = |(status, about): (u16, &str)| {
        let content = json!({ "application/json": { "schema": &schema } });
        (status.to_string(), json!({ "description": about, "content": content }))
    };
    REFUSALS.into_iter().map(one).collect()
}

/// What a handler takes.
pub(super) trait Input {
    fn describe(operation: &mut Operation<'_>);
}

impl Input for State<Arc<Asked>> {
    fn describe(_: &mut Operation<'_>) {}
}

/// What it decides by is part of every HTTP request.
impl Input for HeaderMap {
    fn describe(_: &mut Operation<'_>) {}
}

impl Input for By {
    fn describe(_: &mut Operation<'_>) {}
}

/// A parameter of the query, the path or the header.
pub(super) fn parameter(name: &str, place: &str, is_required: bool, mut schema: Value) -> Value {
    let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    // That it may be left out is said by `required`; no query says null.
    if let Some(kinds) = schema["type"].as_array().cloned() {
        let mut kinds = kinds.into_iter().filter(|kind| kind != "null");
        if let (Some(only), None) = (kinds.next(), kinds.next()) {
            schema["type"] = only;
        }
    }
    json!({
        "name": name,
        "in": place,
        "required": is_required,
        "description": about.unwrap_or_else(|| format!("The {name}, in the {place}").into()),
        "schema": schema,
    })
}

/// What a handler answers.
pub(super) trait Answer {
    fn describe(operation: &mut Operation<'_>);
}

impl<T: JsonSchema> Answer for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.answer(200, "Done", "application/json", &schema);
    }
}

/// Something is made, or was there before.
impl<T: JsonSchema> Answer for (StatusCode, Json<T>) {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.answer(200, "It was so before", "application/json", &schema);
        operation.answer(201, "It is begun", "application/json", &schema);
    }
}

/// The statuses of refusals stand in the table.
impl<T: Answer> Answer for Result<T, Refused> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

/// A handler of which is known what it takes and answers.
pub(super) trait Described<D> {
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! described {
    ($($input:ident)*) => {
        impl<F, Fut, R, $($input),*> Described<(Fut, R, $($input),*)> for F
        where
            F: Fn($($input),*) -> Fut,
            Fut: Future<Output = R>,
            R: Answer,
            $($input: Input),*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($input::describe(operation);)*
                R::describe(operation);
            }
        }
    };
}

described!();
described!(A);
described!(A B);
described!(A B C);
described!(A B C E);
described!(A B C E G);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_docs_is_current() {
        assert_eq!(
            document(),
            include_str!("../../../../docs/openapi.json"),
            "docs/openapi.json is old: run `cargo xtask docs`"
        );
    }

    #[test]
    fn every_operation_says_what_it_is_takes_and_answers() {
        let document: Value = serde_json::from_str(document()).unwrap();
        let mut ids = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let at = format!("{method} {path}: {operation}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
                assert!(operation["responses"]["200"].is_object(), "{at}");
                let is_health = path.ends_with('z');
                assert_eq!(operation["security"].is_null(), is_health, "{at}");
                assert_eq!(method == "post", operation["requestBody"].is_object(), "{at}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(parameter["description"].is_string(), "{at}");
                }
                ids.push(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(document["paths"]["/v1/backends/{name}/phases"]["post"].is_object());
        let text = super::document();
        for reference in text.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "nothing is at {pointer}");
        }
    }
}
