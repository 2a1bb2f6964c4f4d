//! What a target is: bytes go in, and a broken promise is a panic.

/// An input with its name.
pub type Seed = (String, Vec<u8>);

/// A target. To add one, write it and name it in [`TARGETS`](crate::TARGETS).
pub trait Target: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Takes an input; panics if the filter breaks a promise over it.
    fn run(&self, data: &[u8]);

    /// The inputs that the search begins with. Made rather than kept, so that they follow the formats.
    fn seeds(&self) -> Vec<Seed>;
}

/// A seed of that name.
pub(crate) fn seed(name: &str, bytes: impl Into<Vec<u8>>) -> Seed {
    (name.to_owned(), bytes.into())
}
