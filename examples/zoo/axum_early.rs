//! An axum server that binds first and starts afterwards: clients are taken by the kernel, wait, and are served when the
//! start is over. Nobody is lost; all of them come at once, and each had to be as patient as the start was long.
//!
//! ```text
//! greenroom audit --url ws://127.0.0.1:{port}/ws --expect echo -- target/debug/examples/axum_early
//! ```

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::routing::any;

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() {
    let port = std::env::var("PORT").expect("PORT says where to listen");
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    // tidy: allow-sleep this is the slow start-up itself
    tokio::time::sleep(Duration::from_millis(900)).await;
    let app = Router::new().route(
        "/ws",
        any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }),
    );
    axum::serve(listener, app).await.unwrap();
}
