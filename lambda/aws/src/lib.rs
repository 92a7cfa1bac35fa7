//! AWS: the coordinator's ports over EBS and SSM, and the Lambda function around it.
//!
//! `client` makes every SDK client, `fail` says what an error proves (certainly nothing done, or nobody knows); `ebs` and `ssm`
//! carry single calls and hold no policy; `lambda` is the function of the state machine, `bin/bootstrap.rs` its process.

pub mod client;
pub mod ebs;
pub mod ebs_helper;
pub mod fail;
pub mod lambda;
mod readonly;
pub mod ssm;

pub use client::{Clients, Settings};
pub use ebs::Ebs;
pub use ssm::Ssm;
