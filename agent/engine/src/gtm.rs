//! gtm
