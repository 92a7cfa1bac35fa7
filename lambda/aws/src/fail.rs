//! What an error of a call proves. Two kinds only: the service said no and did nothing, or nobody knows what it did.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use protocol::Code;
use protocol::wire::Problem;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fail {
    /// A parsed error of the service, or the call never left this process.
    Refused { code: String, message: String },
    /// Time-out, lost connection, 5xx, an answer that cannot be read.
    Lost(String),
}

/// EC2 throttles with 503, the only 5xx that promises that nothing was done (EC2 API reference, "Server error codes").
const THROTTLED: [&str; 6] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
];
const DENIED: [&str; 3] = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"];
const BAD_CREDENTIALS: [&str; 8] = [
    "AuthFailure",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
];
const NOT_SENT: &str = "NotSent";

impl Fail {
    pub fn of<E>(e: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let lost = || Self::Lost(DisplayErrorContext(e).to_string());
        match e {
            SdkError::ConstructionFailure(_) => Self::Refused { code: NOT_SENT.into(), message: DisplayErrorContext(e).to_string() },
            SdkError::ServiceError(s) => {
                let status = s.raw().status().as_u16();
                match s.err().code() {
                    Some(code) if (400..500).contains(&status) || THROTTLED.contains(&code) => {
                        Self::Refused { code: code.to_owned(), message: s.err().message().unwrap_or_default().to_owned() }
                    }
                    _ => lost(),
                }
            }
            // The connection, a time-out, an answer that cannot be read; and what a newer SDK may add.
            _ => lost(),
        }
    }

    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    pub fn throttled(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if THROTTLED.contains(&code.as_str()))
    }

    pub fn denied(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if DENIED.contains(&code.as_str()))
    }

    /// For people. `call` as IAM names it: `ec2:CreateSnapshots`.
    pub fn problem(&self, call: &str) -> Problem {
        let refused = |detail: String| Problem::new(Code::CloudRefused, detail);
        match self {
            Self::Lost(why) => refused(format!("no answer to {call}: {why}")).next("is the region's endpoint reachable from here?"),
            Self::Refused { code, message } if DENIED.contains(&code.as_str()) => {
                let message = plain(message);
                let action = missing(message).unwrap_or(call);
                refused(format!("not permitted: {action} ({message})"))
                    .next(format!("give the role {action}; infra/aws/template.yaml has the whole list"))
            }
            Self::Refused { code, message } if BAD_CREDENTIALS.contains(&code.as_str()) => {
                refused(format!("{call}: the credentials were not accepted: {code}: {message}")).next("aws sts get-caller-identity")
            }
            Self::Refused { code, message } if code == NOT_SENT => refused(format!("{call} was not sent: {message}")),
            Self::Refused { code, message } if self.throttled() => {
                refused(format!("{call} was throttled: {code}: {message}")).next("lower rate_percent, or move the start")
            }
            Self::Refused { code, message } => refused(format!("{call}: {code}: {message}")),
        }
    }
}

/// Without the encoded part, which only `aws sts decode-authorization-message` can read.
fn plain(message: &str) -> &str {
    message.split("Encoded authorization failure message").next().unwrap_or(message).trim_end_matches([' ', '.'])
}

/// The action that is missing, when the message names it: a dry run with tags may lack `ec2:CreateTags`.
fn missing(message: &str) -> Option<&str> {
    let rest = message.split("not authorized to perform: ").nth(1)?;
    rest.split([' ', ',']).next().filter(|a| a.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_missing_permission_without_the_encoded_part() {
        let message = "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/r/f is \
                       not authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:us-east-1::snapshot/*. \
                       Encoded authorization failure message: abcDEF";
        let p = Fail::Refused { code: "UnauthorizedOperation".into(), message: message.into() }.problem("ec2:CreateSnapshots");
        assert!(p.detail.starts_with("not permitted: ec2:CreateTags (") && !p.detail.contains("abcDEF"), "{}", p.detail);
        let bare = Fail::Refused { code: "UnauthorizedOperation".into(), message: "You are not authorized.".into() };
        assert!(bare.problem("ec2:DeleteSnapshot").detail.starts_with("not permitted: ec2:DeleteSnapshot"));
    }
}
