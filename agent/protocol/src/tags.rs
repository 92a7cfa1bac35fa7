//! Tag names and values of a snapshot set (contract §7).
