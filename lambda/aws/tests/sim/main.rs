//! The adapters and the Lambda function against the cloud's double, which injects what no emulator does.
#![recursion_limit = "256"]

mod disks;
mod fleet;
mod function;
mod hosts;
mod resume;
mod support;
