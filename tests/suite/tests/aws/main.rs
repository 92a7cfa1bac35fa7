//! The coordinator's programs, the documents and the templates against hosts with real agents, in clouds that other people
//! wrote (moto, ministack) and in a double that injects what they do not.

mod documents;
