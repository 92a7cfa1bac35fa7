//! A real agent for a test.
