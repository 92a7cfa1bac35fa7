//! Long operations: what a 202 or 201 began is asked about until it ended ("Track asynchronous Azure operations": the address in
//! `Azure-AsyncOperation` answers `{"status": …}`; `Location` answers 202 until it is done).
//!
//! A poll that fails says nothing about the operation. Whoever waits sets a deadline around this.

use crate::client::Arm;
use crate::fail::Fail;
use azure_core::headers::{HeaderName, Headers};
use azure_core::{Response, Url};
use serde_json::Value;
use std::time::Duration;

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// What it made, where the answer has it.
    Succeeded(Value),
    /// `Failed` or `Canceled`, with the error's code and sentence.
    Failed { code: String, message: String },
    /// It may have ended in any way.
    Lost(String),
}

/// How often it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub least: Duration,
    pub most: Duration,
}

/// Inside a window: what Azure asks for, but not seconds on end.
pub const SOON: Pace = Pace { least: Duration::from_millis(200), most: Duration::from_secs(1) };
/// Outside.
pub const LATER: Pace = Pace { least: Duration::from_millis(200), most: Duration::from_secs(15) };

const ASYNC: HeaderName = HeaderName::from_static("azure-asyncoperation");
const LOCATION: HeaderName = HeaderName::from_static("location");
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");

/// Where an operation is asked about.
#[derive(Clone, Debug, PartialEq)]
enum Address {
    /// Done with the answer itself.
    Done,
    Status(Url),
    Monitor(Url),
}

impl Arm {
    /// To its end. `first`: the answer that began it.
    pub async fn finish(&self, first: Response, pace: Pace) -> End {
        let (status, headers, body) = first.deconstruct();
        let mut wait = pause(&headers, pace);
        let address = match self.address(u16::from(status), &headers) {
            Ok(a) => a,
            Err(why) => return End::Lost(why),
        };
        if address == Address::Done {
            return match body.collect().await {
                Ok(bytes) => End::Succeeded(serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
                Err(e) => End::Lost(e.to_string()),
            };
        }
        loop {
            tokio::time::sleep(wait).await;
            match self.poll(&address, pace).await {
                Ok(Poll::Ended(end)) => return end,
                Ok(Poll::Again(next)) => wait = next,
                // The operation is unknown: it is over, or never was.
                Err(f) if f.missing() => return End::Lost("Azure does not know the operation any more".into()),
                // No better answer comes later.
                Err(f) if matches!(f.status(), 401 | 403) => {
                    return End::Lost(f.problem("Microsoft.Compute/locations/diskOperations/read").detail);
                }
                Err(_) => wait = pace.most,
            }
        }
    }

    /// Only at our own endpoint: the token goes there and nowhere else.
    fn address(&self, status: u16, headers: &Headers) -> Result<Address, String> {
        let of = |name: &HeaderName| headers.get_optional_str(name).map(|text| self.ours(text));
        match (of(&ASYNC), of(&LOCATION)) {
            (Some(url), _) => Ok(Address::Status(url?)),
            (None, Some(url)) if status == 202 => Ok(Address::Monitor(url?)),
            (None, _) if status == 202 => Err("Azure accepted it and does not say where to ask about it".into()),
            (None, _) => Ok(Address::Done),
        }
    }

    fn ours(&self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|e| format!("the operation's address cannot be read: {e}"))?;
        // On one machine a proxy may stand in front of a double.
        let local = |u: &Url| u.scheme() == "http" && matches!(u.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.origin() == self.endpoint.origin() || (local(&url) && local(&self.endpoint)) {
            Ok(url)
        } else {
            Err(format!("the operation's address is at another host: {}", url.host_str().unwrap_or_default()))
        }
    }

    async fn poll(&self, address: &Address, pace: Pace) -> Result<Poll, Fail> {
        let (Address::Status(url) | Address::Monitor(url)) = address else { return Ok(Poll::Ended(End::Succeeded(Value::Null))) };
        let token = self.tokens.token().await.map_err(|p| Fail::Lost(p.detail))?;
        let lost = |e: reqwest::Error| Fail::Lost(e.without_url().to_string());
        let answer = self.http.get(url.clone()).bearer_auth(token.secret()).send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        let wait = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let wait = wait.map_or(pace.least, Duration::from_secs).clamp(pace.least, pace.most);
        let body: Value = serde_json::from_slice(&answer.bytes().await.map_err(lost)?).unwrap_or(Value::Null);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let failed = |e: &Value| End::Failed { code: text(&e["code"]), message: text(&e["message"]) };
        if !(200..300).contains(&status) {
            // A monitor tells a failed operation by its own status; throttled and unknown polls are none.
            let f = Fail::answered(status, text(&body["error"]["code"]), text(&body["error"]["message"]));
            let told = matches!(address, Address::Monitor(_)) && matches!(f, Fail::Refused { .. }) && ![401, 404, 429].contains(&status);
            return if told { Ok(Poll::Ended(failed(&body["error"]))) } else { Err(f) };
        }
        Ok(match address {
            Address::Monitor(_) if status == 202 => Poll::Again(wait),
            Address::Monitor(_) => Poll::Ended(End::Succeeded(body)),
            _ => match body["status"].as_str() {
                Some("Succeeded") => Poll::Ended(End::Succeeded(body["properties"]["output"].clone())),
                Some("Failed" | "Canceled") => Poll::Ended(failed(&body["error"])),
                // `InProgress`, and whatever a resource provider calls its steps.
                _ => Poll::Again(wait),
            },
        })
    }
}

enum Poll {
    Ended(End),
    Again(Duration),
}

fn pause(headers: &Headers, pace: Pace) -> Duration {
    let asked = headers.get_optional_str(&RETRY_AFTER).and_then(|v| v.parse().ok()).map(Duration::from_secs);
    asked.unwrap_or(pace.least).clamp(pace.least, pace.most)
}
