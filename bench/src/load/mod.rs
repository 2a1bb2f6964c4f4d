//! The load: as many requests as a server takes, by wrk ([`capacity`]), or so many a second, by a client of
//! our own ([`rate`]), since wrk knows no rate.

pub(crate) mod capacity;
pub(crate) mod rate;

use testbed::wecom::{Account, Event, random_id, unix_now};

/// What is sent to a server: binds that nobody has seen yet, signed and encrypted.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Where to, without a query.
    pub(crate) path: String,
    /// Whose token and key they are sealed with.
    pub(crate) account: Account,
    /// How long their bodies are at least, in bytes; those of 0 are as long as WeCom's own.
    pub(crate) body_bytes: usize,
}

impl Load {
    /// Binds for a path, as long as WeCom's own.
    pub(crate) fn to(path: &str) -> Self {
        Self { path: path.to_owned(), account: Account::demo(), body_bytes: 0 }
    }

    /// So many of them, each a whole request of HTTP/1.1. No byte is zero.
    pub(crate) fn requests(&self, count: usize) -> Vec<Vec<u8>> {
        let (now, run) = (unix_now(), random_id());
        // Base64 makes four bytes of three, and some 600 are there in any case.
        let filler = "x".repeat(self.body_bytes.saturating_sub(600) / 4 * 3);
        let one = |n| {
            let mut bind = Event::bind(&format!("sn-{n}")).req_id(&format!("{run}-{n}")).createtime(now);
            if !filler.is_empty() {
                bind = bind.set("remark", filler.as_str());
            }
            let request = self.account.seal(bind);
            let (query, body) = (request.query_text(), request.body_bytes());
            let head = format!(
                "POST {}?{query} HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                self.path,
                body.len()
            );
            [head.into_bytes(), body].concat()
        };
        (0..count).map(one).collect()
    }
}

/// The value that this part of sorted ones is below, between two of them if it must be.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = sorted.len().saturating_sub(1) as f64 * part;
    let value = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (value(place.floor()), value(place.ceil()));
    low + (high - low) * place.fract()
}

/// The one in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}
