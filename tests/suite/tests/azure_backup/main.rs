//! `hook azure-backup` under a model of Azure Backup's plug-in host: every behaviour of it, with the shipped files, the real agent
//! and a model of IRIS. What is called application-consistent always was, and nothing stays frozen.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the agent's doors")]

mod bed;
mod fallbacks;
mod runs;
mod window;
