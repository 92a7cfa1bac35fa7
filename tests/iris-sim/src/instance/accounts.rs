//! The workload's nodes and the invariants that an image of them must keep.
//!
//! Account `^ACCT(i)` holds `balance,group,sfn,key`: the group is the sequence number of the last update
//! group that touched it, then the partner that the same group touched in another database.
//!
//! * Physical: a partner's group is never older. A cycle writes both blocks or none, so an image that
//!   breaks this mixes two moments.
//! * Logical: balances sum to zero once open transactions are rolled back.
//! * `^SEQ(worker)` is the worker's last transaction; it only moves with a commit.

use super::{Core, UpdateError};
use serde::{Deserialize, Serialize};

pub const GLOBAL: &str = "^ACCT(";
pub const SEQ: &str = "^SEQ(";

/// A place of an account.
pub type Place = (u16, String);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    pub balance: i64,
    pub group: u64,
    pub partner: Option<Place>,
}

impl Account {
    pub fn encode(&self) -> String {
        match &self.partner {
            Some((sfn, key)) => format!("{},{},{sfn},{key}", self.balance, self.group),
            None => format!("{},{}", self.balance, self.group),
        }
    }

    pub fn decode(text: &str) -> Option<Account> {
        let mut parts = text.splitn(4, ',');
        let balance = parts.next()?.parse().ok()?;
        let group = parts.next()?.parse().ok()?;
        let sfn = parts.next().and_then(|s| s.parse().ok());
        let partner = sfn.zip(parts.next().map(str::to_string));
        Some(Account { balance, group, partner })
    }
}

/// One update group: two accounts in two databases, and nodes that go with them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    pub from: Place,
    pub to: Place,
    pub from_delta: i64,
    pub to_delta: i64,
    pub also: Vec<(u16, String, String)>,
}

impl Core {
    pub fn apply_group(&mut self, txn: u64, group: &Group) -> Result<(), UpdateError> {
        let number = self.lsn + 1;
        let mut changes = Vec::with_capacity(2 + group.also.len());
        let sides = [(&group.from, group.from_delta, &group.to), (&group.to, group.to_delta, &group.from)];
        for (place, delta, partner) in sides {
            let old = self.get(place.0, &place.1)?;
            let old = old.as_deref().and_then(Account::decode).unwrap_or_default();
            let new = Account { balance: old.balance + delta, group: number, partner: Some(partner.clone()) };
            changes.push((place.0, place.1.clone(), Some(new.encode())));
        }
        for (sfn, key, value) in &group.also {
            changes.push((*sfn, key.clone(), Some(value.clone())));
        }
        self.update(txn, changes)
    }
}
