//! Delays and faults that tests switch at run time with `iris-sim ctl`.

use std::collections::BTreeMap;

/// Every key, with what it does; `iris-sim ctl --list` prints it.
pub const KEYS: &[(&str, &str)] = &[
    ("freeze_delay_ms", "time between the journal switch and the suspension (a real one: about 1000)"),
    ("thaw_delay_ms", "time between the resumption and the thaw's answer (a real one: about 1000)"),
    ("login_delay_ms", "time that a login takes"),
    ("login", "ok | refused | hang | password"),
    ("login_user", "user name for login=password, default _SYSTEM"),
    ("login_password", "password for login=password, default SYS"),
    ("state", "ok | starting | inhibited | down, as sessions and lists see it"),
    ("health", "ok | warn | alert | hung, as the lists show it"),
    ("freeze_hang", "1: a freeze waits after its journal switch until this is 0 or its client dies"),
    ("freeze_fail", "text: a freeze fails with this error"),
    ("freeze_after_client_died", "1: a freeze completes although its client was killed"),
    ("freeze_late_ms", "a freeze whose client died completes so much later"),
    ("freeze_exit", "exit code of a freeze's client, whatever happened"),
    ("freeze_reply_lost", "1: a freeze completes and never answers"),
    ("thaw_fail", "1: ExternalThaw answers 3 and does nothing"),
    ("thaw_hang", "1: ExternalThaw waits until this is 0"),
    ("thaw_exit", "exit code of a thaw's client, whatever happened"),
    ("native_freeze_fail", "1: `iris freeze` answers 1"),
    ("native_thaw_fail", "1: `iris thaw` answers 1"),
    ("irisstat_w_fail", "1: `irisstat -W` does nothing"),
    ("issuspended_exit", "exit code of IsWDSuspendedExt, whatever the state"),
    ("wd_panic", "1: the write daemon writes one block directly (once)"),
    ("wd_ignore", "1: the write daemon goes on while suspended (negative control)"),
    ("switch10", "1: another backup holds switches 10 and 13"),
    ("disk_full", "1: the freeze log cannot be opened; journal: the switch fails"),
    ("journal_frozen", "1: GetState answers 3"),
    ("use_alternate", "1: the next journal goes to the alternate directory"),
    ("rotate_log", "1: messages.log is renamed and begun anew (once)"),
    ("terminal_log", "1: LogFile=\"\" prints to the terminal as 0 does"),
    ("session_echo", "0: output follows the prompt on its line, 1: on the next"),
    ("time_scale", "factor of all delays and limits"),
];

#[derive(Debug, Default)]
pub struct Faults {
    set: BTreeMap<String, String>,
}

impl Faults {
    /// Sets keys; an empty value removes one. Names an unknown key.
    pub fn apply(&mut self, values: BTreeMap<String, String>) -> Result<(), String> {
        if let Some(unknown) = values.keys().find(|k| !KEYS.iter().any(|(known, _)| known == k)) {
            return Err(format!("no such key: {unknown}"));
        }
        for (key, value) in values {
            if value.is_empty() {
                self.set.remove(&key);
            } else {
                self.set.insert(key, value);
            }
        }
        Ok(())
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        debug_assert!(KEYS.iter().any(|(known, _)| *known == key), "{key}");
        self.set.get(key).map(String::as_str)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|v| v != "0")
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.text(key)?.parse().ok()
    }

    /// Takes a one-time fault.
    pub fn take(&mut self, key: &str) -> bool {
        let was = self.flag(key);
        if was {
            self.set.remove(key);
        }
        was
    }

    pub fn all(&self) -> &BTreeMap<String, String> {
        &self.set
    }
}
