//! Which version of the filter this is, for a line in the log and a metric.
//!
//! The same is written into the module, for those who have only the file: see
//! `tools/build-module.sh`, which also tells the commit.

use crate::dedup::Store;

/// The crate's version and, if the build was told it, the commit: `0.1.0`, or `0.1.0+1a2b3c4d5e6f`.
pub fn text() -> String {
    written(env!("CARGO_PKG_VERSION"), option_env!("WECOM_COMMIT"))
}

/// Takes note in the store that this version has started, and says whether that is news: it is to the
/// first of all the workers that start with it, and after an update to another version.
pub fn is_news(store: &impl Store, version: &str) -> bool {
    let (noted, number) = store.get(KEY);
    noted.as_deref() != Some(version.as_bytes()) && store.set(KEY, version.as_bytes(), number)
}

/// Where the version is noted.
const KEY: &str = "wecom/version";

/// Digits of a commit that are enough to find it by.
const COMMIT_DIGITS: usize = 12;

fn written(version: &str, commit: Option<&str>) -> String {
    match commit.and_then(|commit| commit.get(..COMMIT_DIGITS)) {
        Some(digits) => format!("{version}+{digits}"),
        None => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]

    use std::cell::RefCell;

    use super::*;

    /// A value with a number, as one that is shared by all workers.
    #[derive(Default)]
    struct Shared {
        value: RefCell<Option<(Vec<u8>, u32)>>,
        contended: bool,
    }

    impl Store for Shared {
        fn get(&self, _: &str) -> (Option<Vec<u8>>, Option<u32>) {
            self.value.borrow().clone().unzip()
        }

        fn set(&self, _: &str, value: &[u8], number: Option<u32>) -> bool {
            let current = self.value.borrow().as_ref().map(|(_, number)| *number);
            let writes = current == number && !self.contended;
            if writes {
                self.value.replace(Some((value.to_vec(), number.unwrap_or_default() + 1)));
            }
            writes
        }
    }

    #[test]
    fn a_version_has_the_first_digits_of_its_commit_where_that_is_known() {
        assert_eq!(written("0.1.0", Some("1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d")), "0.1.0+1a2b3c4d5e6f");
        assert_eq!(written("0.1.0", None), "0.1.0");
        assert_eq!(written("0.1.0", Some("")), "0.1.0");
    }

    #[test]
    fn a_version_is_news_to_the_first_worker_alone() {
        let store = Shared::default();
        assert!(is_news(&store, "1"));
        assert!(!is_news(&store, "1"));
        assert!(!is_news(&Shared { contended: true, ..store }, "2"), "another one was quicker");
    }

    #[test]
    fn an_update_is_news_and_so_is_its_rollback() {
        let store = Shared::default();
        for version in ["1", "2", "1"] {
            assert!(is_news(&store, version));
            assert!(!is_news(&store, version));
        }
    }
}
