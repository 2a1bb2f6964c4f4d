//! An encrypted answer, opened.

use anyhow::{Context, Result};
use serde_json::Value;

/// An encrypted reply, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message in it.
    pub plaintext: Vec<u8>,
    /// When it was sealed, in Unix seconds.
    pub timestamp: u64,
    /// Its nonce.
    pub nonce: String,
    /// Whom it is addressed to.
    pub receive_id: String,
}

impl Reply {
    /// The message as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.plaintext).with_context(|| format!("the reply is no JSON: {}", self.text()))
    }

    /// The message as text, for people to read.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.plaintext).into_owned()
    }

    /// Its verdict, if it is one.
    pub fn errcode(&self) -> Option<u32> {
        self.json().ok()?.get("errcode")?.as_u64()?.try_into().ok()
    }

    /// Its verdict's text, if it is one.
    pub fn errmsg(&self) -> Option<String> {
        self.json().ok()?.get("errmsg")?.as_str().map(str::to_owned)
    }
}
