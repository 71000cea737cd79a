//! Open sessions over the control socket: `GET /v1/sessions`, `POST /v1/sessions/close`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{ANSWER_WITHIN, Done, Shared, problem};
use crate::observe::status::{SessionFilter, SessionStatus};

type Asked = Result<Query<SessionFilter>, QueryRejection>;

const HELP: &str = "listener= and backend= take names, client= an address, with or without port";

pub(super) async fn list(State(shared): State<Shared>, asked: Asked) -> Response {
    let filter = match asked {
        Ok(Query(filter)) => filter,
        Err(odd) => return problem(StatusCode::BAD_REQUEST, odd.body_text(), HELP),
    };
    let listed = async { shared.handler.sessions(filter).await.map(Json::<Vec<SessionStatus>>) };
    answer(listed).await
}

pub(super) async fn close(State(shared): State<Shared>, asked: Asked) -> Response {
    let filter = match asked {
        Ok(Query(filter)) => filter,
        Err(odd) => return problem(StatusCode::BAD_REQUEST, odd.body_text(), HELP),
    };
    let closed = async { shared.handler.close_sessions(filter).await.map(|message| Json(Done { message })) };
    answer(closed).await
}

async fn answer(asked: impl Future<Output = Result<impl IntoResponse, String>>) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => answer.into_response(),
        Ok(Err(error)) => problem(StatusCode::BAD_REQUEST, error, HELP),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the forwarder did not answer within {} s", ANSWER_WITHIN.as_secs()),
            "look into the log of the daemon",
        ),
    }
}
