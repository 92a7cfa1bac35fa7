//! Every request as it was on the wire, in order: for IAM comparisons and for "what happened inside the window".

use crate::clock::boot_us;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Mutex;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// From 1, in the order of arrival.
    pub n: u64,
    /// `ec2`, `ssm`, `sts`, `lambda`, `imds`, or the credential scope's service for what is proxied.
    pub service: String,
    pub action: String,
    /// The registered name of the access key, else the access key.
    pub principal: Option<String>,
    pub region: Option<String>,
    pub instance: Option<String>,
    pub document: Option<String>,
    pub params: Value,
    /// CLOCK_BOOTTIME.
    pub in_us: u64,
    /// `None`: not answered yet, or never (lost).
    pub out_us: Option<u64>,
    pub status: Option<u16>,
    /// The error's code as AWS names it.
    pub error: Option<String>,
    /// Rules that hit it.
    pub faults: Vec<u64>,
    /// Registered windows in which it began or ended. Filled when it is read.
    pub windows: Vec<String>,
}

/// A stretch of CLOCK_BOOTTIME with a name; `to_ms` absent: still open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub name: String,
    pub from_ms: u64,
    #[serde(default)]
    pub to_ms: Option<u64>,
}

/// What the record needs of a call of either cloud.
pub trait Recorded: Clone {
    fn number(&mut self, n: u64);
    fn ended(&mut self, end: End, now_us: u64);
    /// First and, if it was answered, last moment.
    fn span(&self) -> (u64, Option<u64>);
    fn touches(&mut self, windows: Vec<String>);
}

pub struct Record<C = Call> {
    calls: Mutex<Vec<C>>,
    windows: Mutex<Vec<Window>>,
}

impl<C> Default for Record<C> {
    fn default() -> Self {
        Self { calls: Mutex::default(), windows: Mutex::default() }
    }
}

/// How a call ended.
pub struct End {
    pub status: Option<u16>,
    pub error: Option<String>,
}

impl Call {
    pub fn of(wire: &Wire, faults: Vec<u64>) -> Self {
        Self {
            service: wire.service.clone(),
            action: wire.action.clone(),
            principal: wire.principal.clone(),
            region: wire.region.clone(),
            instance: wire.instance.clone(),
            document: wire.document.clone(),
            params: wire.params.clone(),
            in_us: wire.in_us,
            faults,
            ..Self::default()
        }
    }
}

impl Recorded for Call {
    fn number(&mut self, n: u64) {
        self.n = n;
    }
    fn ended(&mut self, end: End, now_us: u64) {
        self.out_us = end.status.map(|_| now_us);
        (self.status, self.error) = (end.status, end.error);
    }
    fn span(&self) -> (u64, Option<u64>) {
        (self.in_us, self.out_us)
    }
    fn touches(&mut self, windows: Vec<String>) {
        self.windows = windows;
    }
}

impl<C: Recorded> Record<C> {
    pub fn begin(&self, mut call: C) -> u64 {
        let mut calls = self.calls.lock().expect("record");
        let n = calls.len() as u64 + 1;
        call.number(n);
        calls.push(call);
        n
    }

    pub fn end(&self, n: u64, end: End) {
        let mut calls = self.calls.lock().expect("record");
        if let Some(call) = calls.get_mut(n as usize - 1) {
            call.ended(end, boot_us());
        }
    }

    /// Replaces the window of the same name.
    pub fn window(&self, window: Window) {
        let mut windows = self.windows.lock().expect("windows");
        windows.retain(|w| w.name != window.name);
        windows.push(window);
    }

    pub fn calls(&self) -> Vec<C> {
        let windows = self.windows.lock().expect("windows").clone();
        let mut calls = self.calls.lock().expect("record").clone();
        for call in &mut calls {
            let (from, to) = call.span();
            let until = to.unwrap_or(u64::MAX);
            let inside = |w: &&Window| from <= w.to_ms.map_or(u64::MAX, |t| t * 1000) && until >= w.from_ms * 1000;
            call.touches(windows.iter().filter(inside).map(|w| w.name.clone()).collect());
        }
        calls
    }
}
