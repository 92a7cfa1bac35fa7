//! What an error of a call proves. Two kinds only: Azure said no and did nothing, or nobody knows what it did.

use azure_core::error::{Error, ErrorKind};
use protocol::Code;
use protocol::wire::Problem;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fail {
    /// A parsed refusal (4xx), or the call never left this process.
    Refused { status: u16, code: String, message: String },
    /// Time-out, lost connection, 5xx, an answer that cannot be read.
    Lost(String),
}

const NO_TOKEN: &str = "NoToken";
/// A call that changes something, from a client that may only read.
pub const READ_ONLY: &str = "ReadOnly";

impl Fail {
    pub fn of(e: &Error) -> Self {
        match e.kind() {
            ErrorKind::Credential => Self::Refused { status: 0, code: NO_TOKEN.into(), message: said(e) },
            ErrorKind::HttpResponse { status, error_code } => {
                let status = u16::from(*status);
                let http = e.as_http_error();
                let code = error_code.clone().or_else(|| http.and_then(|h| h.error_code().map(str::to_owned)));
                let message = http.and_then(|h| h.error_message()).unwrap_or_default().to_owned();
                Self::answered(status, code.unwrap_or_default(), message)
            }
            ErrorKind::MockFramework if said(e) == READ_ONLY => {
                Self::Refused { status: 0, code: READ_ONLY.into(), message: "this client may only read".into() }
            }
            ErrorKind::Io | ErrorKind::DataConversion | ErrorKind::MockFramework | ErrorKind::Other => Self::Lost(said(e)),
        }
    }

    /// By the status of an answer. 408 and 5xx prove nothing.
    pub fn answered(status: u16, code: String, message: String) -> Self {
        if (400..500).contains(&status) && status != 408 {
            let code = if code.is_empty() { status.to_string() } else { code };
            Self::Refused { status, code, message }
        } else {
            Self::Lost(format!("answered {status} {code}"))
        }
    }

    pub fn status(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => *status,
            Self::Lost(_) => 0,
        }
    }

    pub fn throttled(&self) -> bool {
        self.status() == 429
    }

    /// The identity has no right to it.
    pub fn denied(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. })
    }

    pub fn missing(&self) -> bool {
        self.status() == 404
    }

    /// For people. `call` as a role's action names it: `Microsoft.Compute/snapshots/write`.
    pub fn problem(&self, call: &str) -> Problem {
        let refused = |detail: String| Problem::new(Code::CloudRefused, detail);
        match self {
            Self::Lost(why) => refused(format!("no answer to {call}: {why}")).next("is Azure Resource Manager reachable from here?"),
            Self::Refused { code, message, .. } if code == NO_TOKEN => {
                let (detail, next) = message.split_once('\n').unwrap_or((message, ""));
                refused(detail.to_owned()).next(next.to_owned())
            }
            Self::Refused { status: 403, message, .. } => {
                let action = missing_action(message).unwrap_or(call);
                refused(format!("not permitted: {action}"))
                    .next(format!("give the role {action}; infra/azure/roles.json has the whole list"))
            }
            Self::Refused { status: 401, code, .. } => {
                refused(format!("{call}: the token was not accepted: {code}")).next("az account show: is it the right tenant?")
            }
            Self::Refused { status: 429, code, .. } => {
                refused(format!("{call} was throttled: {code}")).next("lower rate_percent, or move the start")
            }
            Self::Refused { code, message, .. } => refused(format!("{call}: {code}: {}", message.lines().next().unwrap_or_default())),
        }
    }
}

fn said(e: &Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        let more = c.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = c.source();
    }
    text
}

/// "… does not have authorization to perform action 'Microsoft.Compute/snapshots/write' over scope …"
fn missing_action(message: &str) -> Option<&str> {
    let rest = message.split("perform action '").nth(1)?;
    rest.split('\'').next().filter(|a| a.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_missing_action_and_only_a_refusal_proves_that_nothing_was_done() {
        let message = "The client 'x' does not have authorization to perform action 'Microsoft.Compute/snapshots/write' over scope '/s'.";
        let denied = Fail::answered(403, "AuthorizationFailed".into(), message.into());
        let p = denied.problem("Microsoft.Compute/snapshots/read");
        assert_eq!(p.detail, "not permitted: Microsoft.Compute/snapshots/write");
        for status in [408, 500, 502, 503, 504] {
            assert!(matches!(Fail::answered(status, String::new(), String::new()), Fail::Lost(_)), "{status}");
        }
        assert!(Fail::answered(429, "TooManyRequests".into(), String::new()).throttled());
        assert!(Fail::answered(404, "ResourceNotFound".into(), String::new()).missing());
    }
}
