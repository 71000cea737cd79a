//! What does the operator want?

pub mod ready;
