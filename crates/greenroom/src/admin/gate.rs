//! `POST /v1/backends/NAME/gate`: its gate by hand. Answers with the backend.
//!
//! All backends of the name are told: one that a reload has replaced goes on with those who are held there.
//! The owner task decides with core (`gate::hand`); the same once more changes nothing but its end. Each is said as an event.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use greenroom_core::gate::Hand;
use greenroom_core::limits::{HAND_MAX, HAND_MIN, LOG_TEXT_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::api::{Name, Refused, all_of, backend, refuse, status};
use super::by::By;
use super::openapi::Api;
use super::said::{Body, Sent};
use crate::clock;
use crate::config::units;
use crate::driver::{Message, SetBy, Status};
use crate::telemetry::printable;

/// What a gate is to do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct GateOrder {
    /// `hold`: nobody is let in, all wait for their time. `refuse`: all are refused with 503. `open`: as its readiness says.
    pub gate: String,
    /// With `open`: all are let in, whatever its readiness says.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub force: bool,
    /// For how long, such as `10m`; then its readiness decides again. Without it: until `open` is said.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none", default)]
    pub lasts: Option<String>,
}

impl Sent for GateOrder {
    const EXAMPLE: &'static str = r#"{"gate": "hold", "for": "10m"}"#;
}

pub(super) fn routes(api: Api) -> Api {
    api.post("/v1/backends/{name}/gate", "Its gate by hand", &[404, 409, 503], set)
}

async fn set(
    State(asked): State<Arc<Asked>>,
    by: By,
    name: Name,
    Body(order): Body<GateOrder>,
) -> Result<Json<Status>, Refused> {
    let backend = backend(&asked, &name)?;
    let said = by.change("gate", format!("backend {}", backend.name));
    let meant = match asked.drain.borrow().is_some() {
        true => refuse(StatusCode::CONFLICT, "greenroom stops", "ask its successor"),
        false => judge(&order),
    };
    match &meant {
        Ok(_) => {
            let force = if order.force { ", by force" } else { "" };
            let lasts = order.lasts.as_deref().map(|lasts| format!(" for {lasts}"));
            said.detail(format!("{}{force}{}", order.gate, lasts.unwrap_or_default()))
                .done(&asked.log);
        }
        Err(_) => said.of(&asked.log, &meant),
    }
    let (hand, lasts) = meant?;
    let until = lasts.map(|lasts| clock::now() + lasts);
    for each in all_of(&asked, &backend) {
        each.inbox.tell(Message::Hand {
            hand,
            until,
            by: SetBy::Admin(by.to_string().into()),
        });
    }
    status(&backend).await
}

fn judge(order: &GateOrder) -> Result<(Hand, Option<Duration>), Refused> {
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    let hand = match (order.gate.as_str(), order.force) {
        ("hold", false) => Hand::Hold,
        ("refuse", false) => Hand::Refuse,
        ("open", false) => Hand::Auto,
        ("open", true) => Hand::Open,
        ("hold" | "refuse", true) => {
            let error = format!("`force` is said of open only, and `gate` is {:?}", order.gate);
            return refuse(unprocessable, error, "leave it out");
        }
        (other, _) => {
            let error = format!("`gate` is {:?}", printable(other, LOG_TEXT_MAX));
            return refuse(unprocessable, error, "write hold, refuse or open");
        }
    };
    let Some(lasts) = &order.lasts else {
        return Ok((hand, None));
    };
    if hand == Hand::Auto {
        let error = format!("`for` is {lasts:?}, and `open` is for good: its readiness decides");
        return refuse(unprocessable, error, "leave `for` out, or say \"force\": true too");
    }
    match units::duration_in(lasts, HAND_MIN, HAND_MAX) {
        Ok(lasts) => Ok((hand, Some(lasts))),
        Err(error) => refuse(unprocessable, format!("`for`: {error}"), "write a time such as 10m"),
    }
}
