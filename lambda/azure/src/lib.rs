//! Azure: the coordinator's ports over managed-disk snapshots and Run Command.
//!
//! `id` names things (Azure's argument orders differ from call to call, so nothing here is a bare string).

pub mod id;
