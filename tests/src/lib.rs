//! What the tests share: frames made and read by an independent library, and a data plane to run them on.

pub mod bench;
pub mod frame;
