//! The tracker server (being built).
pub mod registry;
