//! What an operator wants of a backend, over the control socket: `POST /v1/backend?name=NAME&order=drain`, or with
//! `weight=N`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{ANSWER_WITHIN, Done, Shared, problem};
use crate::forward::orders::Order;

const HELP: &str = "name= takes BACKEND or LISTENER/BACKEND; beside it order=ready, order=drain or order=maint, or \
                    weight= a number from 0 to 65535";

/// What was asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    name: String,
    order: Option<Word>,
    weight: Option<u16>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Ready,
    Drain,
    Maint,
}

impl Asked {
    fn order(&self) -> Option<Order> {
        match (self.order, self.weight) {
            (Some(Word::Ready), None) => Some(Order::Ready),
            (Some(Word::Drain), None) => Some(Order::Drain),
            (Some(Word::Maint), None) => Some(Order::Maint),
            (None, Some(weight)) => Some(Order::Weight(weight)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}

pub(super) async fn order(
    State(shared): State<Shared>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(odd) => return problem(StatusCode::BAD_REQUEST, odd.body_text(), HELP),
    };
    let Some(order) = asked.order() else {
        return problem(StatusCode::BAD_REQUEST, "an order and a weight are not asked for together", HELP);
    };
    match tokio::time::timeout(ANSWER_WITHIN, shared.handler.order(asked.name, order)).await {
        Ok(Ok(message)) => Json(Done { message }).into_response(),
        Ok(Err(error)) => problem(StatusCode::NOT_FOUND, error, "`vipd backend` lists them"),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the forwarder did not answer within {} s", ANSWER_WITHIN.as_secs()),
            "look into the log of the daemon",
        ),
    }
}
