//! What the rules about the repository need: sources, manifests, documents, a running agent. Each rule is a function
//! from text to findings, so that a test can feed it a bad sample and see it fail.

pub mod agent;
pub mod aws;
pub mod aws_graph;
pub mod aws_script;
pub mod openapi;
pub mod rules;
pub mod skips;
