//! The record shared by all replicas: `dedup.redis`.

use super::fields::Fields;
use super::{ConfigError, Env, Secret, limits};

/// Where and how replicas share their record of duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    cluster: String,
    secret: Secret,
    previous_secret: Option<Secret>,
    username: Option<Secret>,
    password: Option<Secret>,
    timeout_ms: u64,
    key_prefix: String,
    on_error: OnError,
}

/// What becomes of a callback that Redis says nothing about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It fails closed.
    Refuse,
    /// This process's own record decides: at most once for each replica.
    Local,
}

impl Redis {
    /// An Envoy cluster of raw TCP to Redis.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Seals the records, and opens them.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Opens records as well, while the secret is rotated.
    pub fn previous_secret(&self) -> Option<&Secret> {
        self.previous_secret.as_ref()
    }

    /// For AUTH, beside a password.
    pub fn username(&self) -> Option<&Secret> {
        self.username.as_ref()
    }

    /// For AUTH.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// How long one exchange with Redis may take, in milliseconds.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// What the names of the records begin with.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// What becomes of a callback that Redis says nothing about.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }
}

pub(super) fn parse(fields: &mut Fields, env: Env<'_>) -> Result<Redis, ConfigError> {
    let cluster = fields.required_text("cluster")?;
    if cluster.is_empty() {
        return Err(fields.wrong("cluster", "must not be empty"));
    }
    let secret = fields.secret("secret", env)?;
    let previous_secret = fields.optional_secret("previous_secret", env)?;
    for (field, secret) in [("secret", Some(&secret)), ("previous_secret", previous_secret.as_ref())] {
        let fit = |text: &str| limits::RECORD_SECRET_LEN.contains(&text.len()) && is_graphic(text);
        if secret.is_some_and(|secret| !fit(secret.expose())) {
            return Err(fields.wrong(field, "must be 32 to 128 printable ASCII characters without blanks"));
        }
    }
    let username = fields.optional_secret("username", env)?;
    let password = fields.optional_secret("password", env)?;
    for (field, secret) in [("username", &username), ("password", &password)] {
        if secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
            return Err(fields.wrong(field, "must not be empty"));
        }
    }
    if username.is_some() && password.is_none() {
        return Err(fields.wrong("password", "is missing, where there is a username"));
    }
    let timeout_ms = fields.number("timeout_ms", &limits::REDIS_TIMEOUT_MS, limits::REDIS_TIMEOUT_MS_DEFAULT)?;
    let key_prefix = fields.text("key_prefix")?.unwrap_or_else(|| limits::KEY_PREFIX_DEFAULT.to_owned());
    if !is_graphic(&key_prefix) || key_prefix.len() > 128 {
        return Err(fields.wrong("key_prefix", "must be printable ASCII without blanks, at most 128 characters"));
    }
    let on_error = match fields.text("on_error")?.as_deref() {
        None | Some("refuse") => OnError::Refuse,
        Some("local") => OnError::Local,
        Some(_) => return Err(fields.wrong("on_error", "must be refuse or local")),
    };
    fields.finish()?;
    Ok(Redis { cluster, secret, previous_secret, username, password, timeout_ms, key_prefix, on_error })
}

fn is_graphic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
