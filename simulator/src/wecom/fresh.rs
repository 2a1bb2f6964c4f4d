//! What no two callbacks share: the time, and random values.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A nonce as WeCom makes them, ten digits.
pub fn random_nonce() -> String {
    let number = u64::from(u32::from_be_bytes(random())).saturating_add(1_000_000_000);
    number.to_string()
}

/// A random id of 32 hex digits.
pub fn random_id() -> String {
    hex::encode(random::<16>())
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
