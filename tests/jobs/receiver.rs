//! The business's server: it answers as it is told and notes what it gets.
#![allow(dead_code, reason = "not every test that has it asks everything of it")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, Router};
use serde_json::Value;

#[derive(Default)]
struct Told {
    /// Answers to come; then 200.
    answers: VecDeque<u16>,
    always: Option<u16>,
    all: Vec<Value>,
    good: Vec<Value>,
}

/// A running receiver; stops when dropped.
pub struct Receiver {
    told: Arc<Mutex<Told>>,
    server: tokio::task::JoinHandle<()>,
    pub url: String,
}

async fn take(State(told): State<Arc<Mutex<Told>>>, Json(body): Json<Value>) -> StatusCode {
    let mut told = told.lock().unwrap();
    let status = told.answers.pop_front().or(told.always).unwrap_or(200);
    told.all.push(body.clone());
    if status == 200 {
        told.good.push(body);
    }
    StatusCode::from_u16(status).unwrap()
}

impl Receiver {
    pub async fn start() -> Receiver {
        let told: Arc<Mutex<Told>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(Arc::clone(&told));
        let server = tokio::spawn(async move { axum_serve(listener, router).await });
        Receiver { told, server, url }
    }

    /// The next answers have these statuses.
    pub fn answer(&self, statuses: &[u16]) {
        self.told.lock().unwrap().answers.extend(statuses);
    }

    /// All answers have this status from now on.
    pub fn always(&self, status: u16) {
        self.told.lock().unwrap().always = Some(status);
    }

    /// All that came.
    pub fn all(&self) -> Vec<Value> {
        self.told.lock().unwrap().all.clone()
    }

    /// What was answered with 200.
    pub fn good(&self) -> Vec<Value> {
        self.told.lock().unwrap().good.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves a router on plain HTTP/1.1 connections.
pub async fn axum_serve(listener: tokio::net::TcpListener, router: Router) {
    use tower::ServiceExt;
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let router = router.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _cut = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}
