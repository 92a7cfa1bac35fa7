//! Rules over sources and documents.
