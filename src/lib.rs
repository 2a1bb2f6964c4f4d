//! wip
pub mod wecom;
