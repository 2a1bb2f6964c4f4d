//! What came back over HTTP.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::account::Account;
use super::reply::Reply;

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as received.
    pub body: Vec<u8>,
    /// From the first byte sent to the last byte received.
    pub elapsed: Duration,
}

impl Answer {
    /// Opens an encrypted reply.
    ///
    /// # Errors
    /// If the status is not 200, or as [`Account::open_reply`].
    pub fn decrypt(&self, account: &Account) -> Result<Reply> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.text());
        account.open_reply(&self.body)
    }

    /// The body as text, for people to read.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The word under `error` in a rejection's body.
    pub fn rejection(&self) -> Option<String> {
        self.json().ok()?.get("error")?.as_str().map(str::to_owned)
    }

    /// Whether WeCom reads this answer to a bind as approval without any verdict in it.
    pub fn is_bare_success(&self) -> bool {
        self.status == 200 && matches!(self.body.as_slice(), b"" | b"success")
    }
}
