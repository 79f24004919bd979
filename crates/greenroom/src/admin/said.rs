//! Reads what is said to the admin API: a body, the parameters of a query, a number or a name in a path. What cannot be taken is
//! refused in our own words: what, where, which value, what to do.
//!
//! A type's own schema, which the document shows too, tells what a field may be, so the words follow the type. Only a request
//! that was refused by the parser is looked at again here. Bounded by what the doors let through (`ACT_BODY_MAX`).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use greenroom_core::limits::LOG_TEXT_MAX;
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value, json};

use super::api::{Refused, refuse};
use super::openapi::{Input, Operation, parameter};
use crate::telemetry::printable;

/// A type that can be the body of a request.
pub(super) trait Sent: DeserializeOwned + JsonSchema {
    /// One as somebody may send it.
    const EXAMPLE: &'static str;
    /// What it is without a body, where there may be none.
    fn absent() -> Option<Self> {
        None
    }
}

/// The body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: Sent> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let Ok(bytes) = Bytes::from_request(request, state).await else {
            let error = "the body is larger than it may be here, or did not come whole";
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, error, "send less at a time");
        };
        if let Some(absent) = T::absent().filter(|_| bytes.is_empty()) {
            return Ok(Self(absent));
        }
        match serde_json::from_slice(&bytes) {
            Ok(body) => Ok(Self(body)),
            Err(error) => {
                let (status, error, help) = wrong_body::<T>(&bytes, &error);
                refuse(status, error, help)
            }
        }
    }
}

/// What is wrong with a body that the parser does not take.
fn wrong_body<T: Sent>(bytes: &[u8], error: &serde_json::Error) -> (StatusCode, String, String) {
    let example = format!("send JSON such as {}", T::EXAMPLE);
    let at = format!("line {}, column {}", error.line(), error.column());
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        let error = match bytes.is_empty() {
            true => "there is no body".to_owned(),
            false if error.is_eof() => format!("the body is no JSON: it ends too soon, at {at}"),
            false => format!("the body is no JSON: nobody can read on from {at}"),
        };
        return (StatusCode::BAD_REQUEST, error, example);
    };
    let schema = schema_for!(T).to_value();
    let (error, help) = match wrong(&schema, &schema, &value, "") {
        Some((error, help)) => (error, format!("{help}; {example}")),
        // A field that is there twice is the only thing that a schema does not see.
        None => (format!("a field of the body is there twice, by {at}"), example),
    };
    (StatusCode::UNPROCESSABLE_ENTITY, error, help)
}

/// The parameters of a query: the fields of a struct.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + JsonSchema> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        if let Ok(Query(parameters)) = Query::try_from_uri(&parts.uri) {
            return Ok(Self(parameters));
        }
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let pairs = pairs.map_or_else(|_| Vec::new(), |Query(pairs)| pairs);
        let (error, help) = wrong_parameter(&schema_for!(T).to_value(), pairs);
        refuse(StatusCode::UNPROCESSABLE_ENTITY, error, help)
    }
}

fn wrong_parameter(schema: &Value, pairs: Vec<(String, String)>) -> (String, String) {
    let mut fields = Map::new();
    for (name, text) in pairs {
        let kinds = kinds(&schema["properties"][&name]);
        let value = match (&*kinds, text.as_str()) {
            (["integer"], digits) => digits
                .parse::<u64>()
                .map_or_else(|_| Value::from(text), |n| Number::from(n).into()),
            (["boolean"], "true") => true.into(),
            (["boolean"], "false") => false.into(),
            _ => Value::from(text),
        };
        if fields.insert(name.clone(), value).is_some() {
            return (format!("`{}` is there twice", shown(&name)), "say it once".to_owned());
        }
    }
    let found = wrong(schema, schema, &fields.into(), "");
    found.unwrap_or_else(|| {
        let error = "the query cannot be read";
        (error.into(), "write name=value with & between them, in UTF-8".into())
    })
}

/// What stands in the path for its only name in braces.
pub(super) struct InPath<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for InPath<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let Some((name, text)) = params.iter().flat_map(|params| params.iter()).next() else {
            let error = "the path is no UTF-8";
            return refuse(StatusCode::BAD_REQUEST, error, "write it in UTF-8, percent-encoded");
        };
        match text.parse() {
            Ok(value) => Ok(Self(value)),
            Err(_) => refuse(
                StatusCode::BAD_REQUEST,
                format!("the {name} in the path is {:?}, and that is no number", shown(text)),
                "write it in digits, as lists show it",
            ),
        }
    }
}

/// What is wrong in a value first, by a schema of it, and what to do.
fn wrong(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<(String, String)> {
    let schema = resolved(root, schema);
    let what = if at.is_empty() {
        "the body".to_owned()
    } else {
        format!("`{at}`")
    };
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        let is_known = value.is_null() || value.as_str().is_some_and(|word| words.contains(&word));
        return (!is_known).then(|| {
            (
                format!("{what} is {}", said(value)),
                format!("write {}", either(&words)),
            )
        });
    }
    let kinds = kinds(schema);
    let is_of = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_u64().is_some_and(|number| number <= most(schema)),
        _ => true,
    };
    let is_absent = value.is_null() && may_be_null(schema);
    if !kinds.is_empty() && !is_absent && !kinds.iter().any(|kind| is_of(kind)) {
        let expected: Vec<_> = kinds.iter().map(|kind| named(kind, schema)).collect();
        let expected = expected.iter().map(String::as_str).collect::<Vec<_>>();
        return Some((
            format!("{what} is {}", said(value)),
            format!("write {}", either(&expected)),
        ));
    }
    match value {
        Value::Object(fields) => wrong_field(root, schema, fields, at),
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.filter_map(|(index, item)| wrong(root, &schema["items"], item, &format!("{at}[{index}]")))
                .next()
        }
        Value::String(text) if is_address(schema) && text.parse::<IpAddr>().is_err() => {
            Some((format!("{what} is {}", said(value)), "write an IP address".into()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn wrong_field(root: &Value, schema: &Value, fields: &Map<String, Value>, at: &str) -> Option<(String, String)> {
    let known = schema["properties"].as_object()?;
    let inside = |name: &str| match at {
        "" => name.to_owned(),
        at => format!("{at}.{name}"),
    };
    for (name, value) in fields {
        let Some(field) = known.get(name) else {
            let names: Vec<_> = known.keys().map(String::as_str).collect();
            let here = if at.is_empty() {
                "here".to_owned()
            } else {
                format!("in `{at}`")
            };
            return Some((
                format!("there is no `{}`", inside(&shown(name))),
                format!("what can be said {here} is {}", names.join(", ")),
            ));
        };
        if let Some(found) = wrong(root, field, value, &inside(name)) {
            return Some(found);
        }
    }
    let required = schema["required"].as_array().into_iter().flatten();
    let missing = required
        .filter_map(Value::as_str)
        .find(|name| !fields.contains_key(*name))?;
    Some((format!("`{}` is missing", inside(missing)), format!("say `{missing}`")))
}

/// A schema, where it stands by another name.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let target = schema["$ref"]
        .as_str()
        .and_then(|target| root.pointer(target.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// Which types a schema names, but for null.
fn kinds(schema: &Value) -> Vec<&str> {
    let one = schema["type"].as_str();
    let several = schema["type"].as_array().into_iter().flatten();
    let all = one.into_iter().chain(several.filter_map(Value::as_str));
    all.filter(|kind| *kind != "null").collect()
}

fn may_be_null(schema: &Value) -> bool {
    let kinds = schema["type"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"))
}

fn is_address(schema: &Value) -> bool {
    let any = schema["anyOf"].as_array();
    any.is_some_and(|any| any.iter().any(|one| one["format"] == "ipv4"))
}

/// The largest number that a schema takes.
fn most(schema: &Value) -> u64 {
    let of_format = match schema["format"].as_str() {
        Some("uint8") => u8::MAX.into(),
        Some("uint16") => u16::MAX.into(),
        Some("uint32") => u32::MAX.into(),
        _ => u64::MAX,
    };
    schema["maximum"].as_u64().unwrap_or(of_format)
}

fn named(kind: &str, schema: &Value) -> String {
    match kind {
        "object" => "an object, in braces".into(),
        "array" => "a list, in brackets".into(),
        "string" => "a string".into(),
        "boolean" => "true or false".into(),
        "integer" => match most(schema) {
            u64::MAX => "a whole number".into(),
            most => format!("a whole number up to {most}"),
        },
        other => other.into(),
    }
}

/// What somebody has said there.
fn said(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "null".into(),
        Value::String(text) => format!("{:?}", shown(text)),
        Value::Bool(_) | Value::Number(_) => shown(&value.to_string()),
    }
}

fn shown(text: &str) -> String {
    printable(text, LOG_TEXT_MAX)
}

/// Words as alternatives.
fn either(words: &[&str]) -> String {
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        let before = match index {
            0 => "",
            last if last + 1 == words.len() => " or ",
            _ => ", ",
        };
        let _ = write!(out, "{before}{word}"); // to a String: it cannot fail
    }
    out
}

/// The body, which may be left out where the type has a value for that.
impl<T: Sent> Input for Body<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        let content = json!({ "application/json": { "schema": schema } });
        operation.body = Some(json!({ "required": T::absent().is_none(), "content": content }));
        for status in [400, 413, 415, 422] {
            operation.refuses(status);
        }
    }
}

/// The fields of a struct are the parameters of the query; what it does not know is refused with 422.
impl<T: JsonSchema> Input for Parameters<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = T::json_schema(operation.schemas).to_value();
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().cloned().collect();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let is_required = required.iter().any(|required| required == name);
            operation.parameter(parameter(name, "query", is_required, schema.clone()));
        }
        operation.refuses(422);
    }
}

/// The only parameter in the path; one that cannot be read is refused with 400.
impl<T: JsonSchema> Input for InPath<T> {
    fn describe(operation: &mut Operation<'_>) {
        let name = operation.path.split(['{', '}']).nth(1).unwrap_or_default();
        let schema = T::json_schema(operation.schemas).to_value();
        operation.parameter(parameter(name, "path", true, schema));
        operation.refuses(400);
    }
}

#[cfg(test)]
mod tests {
    use super::super::act::CloseThese;
    use super::super::api::Push;
    use super::super::filter::Filter;
    use super::*;

    fn body<T: Sent>(text: &str) -> String {
        let error = serde_json::from_str::<T>(text).err().expect("the parser takes it");
        let (_, error, help) = wrong_body::<T>(text.as_bytes(), &error);
        format!("{error}\n  {help}\n")
    }

    #[test]
    fn a_body_that_cannot_be_taken_is_told_of_in_our_own_words() {
        let mut told = String::new();
        for text in [
            "",
            "{\"all\"",
            "{\"all\": maybe}",
            "7",
            "{\"al\": true}",
            "{\"filter\": {\"backnd\": \"app\"}}",
            "{\"filter\": [null]}",
            "{\"filter\": null}",
            "{\"filter\": {\"address\": \"10.0.0\"}}",
            "{\"filter\": {\"after\": -1}}",
            "{\"numbers\": [1, \"2\"]}",
            "{\"numbers\": {}}",
            "{\"code\": 70000}",
            "{\"code\": 1.5}",
            "{\"reason\": true}",
            "{\"dry_run\": \"yes\"}",
            "{\"all\": true, \"all\": true}",
        ] {
            let _ = writeln!(told, "{text}\n  {}", body::<CloseThese>(text));
        }
        for text in [
            "{}",
            "{\"phase\": null}",
            "{\"phase\": \"failed\", \"generation\": \"2\"}",
        ] {
            let _ = writeln!(told, "{text}\n  {}", body::<Push>(text));
        }
        insta::assert_snapshot!(told);
        for library in ["deserialize", "expected", "invalid", "unknown field", "EOF"] {
            assert!(!told.contains(library), "{library}: {told}");
        }
    }

    #[test]
    fn parameters_that_cannot_be_taken_are_too() {
        let schema = schema_for!(Filter).to_value();
        let mut told = String::new();
        for query in [
            "backnd=app",
            "after=x",
            "limit=99999999999999999999",
            "address=x",
            "state=a",
            "state=held&state=held",
        ] {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let pairs = pairs.map(|(name, value)| (name.into(), value.into())).collect();
            let (error, help) = wrong_parameter(&schema, pairs);
            let _ = writeln!(told, "{query}\n  {error}\n  {help}\n");
        }
        insta::assert_snapshot!(told);
    }
}
