//! Every SDK client is made here: region, endpoints, credentials, TLS, time-outs, retries.
//!
//! Region, endpoints (`AWS_ENDPOINT_URL`, `_EC2`, `_SSM`) and credentials come from the SDK's default chain: environment,
//! profile, container, instance. TLS is rustls with ring and the system's roots; an `http://` endpoint works as well.

use crate::readonly::ReadOnly;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use protocol::Code;
use protocol::wire::Problem;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(3);
/// Answers of EC2 take seconds at worst; the wait for a second try is the SDK's.
const ATTEMPT: Duration = Duration::from_secs(15);
const CALL: Duration = Duration::from_secs(45);
/// SendCommand answers in well under a second. Inside a window doubt is thawed, so it is not waited for any longer.
const SEND: Duration = Duration::from_secs(10);
/// A throttled call outside a window may wait; the first try and three more.
const TRIES: u32 = 4;

/// What the caller decides; everything else is the environment's.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub region: Option<String>,
    pub profile: Option<String>,
    /// For all services; the environment's otherwise.
    pub endpoint: Option<String>,
    /// Nothing that changes anything can be sent.
    pub read_only: bool,
}

#[derive(Clone, Debug)]
pub struct Clients {
    base: SdkConfig,
    region: String,
    read_only: bool,
    /// Sends a call once: the caller cannot know what a lost call did. No time-out, the caller's deadline ends it.
    pub once: aws_sdk_ec2::Client,
    /// For calls that may be repeated.
    pub patient: aws_sdk_ec2::Client,
    pub ssm_once: aws_sdk_ssm::Client,
    pub ssm_patient: aws_sdk_ssm::Client,
}

impl Clients {
    /// `Config.Invalid` when no region is known. Credentials are looked for with the first call.
    pub async fn load(settings: Settings) -> Result<Self, Problem> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http()).timeout_config(timeouts().build());
        if let Some(region) = settings.region {
            loader = loader.region(Region::new(region));
        }
        if let Some(profile) = settings.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self::from_config(loader.load().await, settings.read_only)
    }

    /// From a configuration made elsewhere (tests).
    pub fn from_config(base: SdkConfig, read_only: bool) -> Result<Self, Problem> {
        let region = base.region().map(ToString::to_string).ok_or_else(|| {
            Problem::new(Code::ConfigInvalid, "no AWS region is configured").next("set AWS_REGION, a profile's region, or --region")
        })?;
        Ok(Self {
            once: ec2(&base, read_only, RetryConfig::disabled(), unlimited()),
            patient: ec2(&base, read_only, patience(), timeouts().build()),
            ssm_once: ssm(&base, read_only, RetryConfig::disabled(), timeouts().operation_timeout(SEND).build()),
            ssm_patient: ssm(&base, read_only, patience(), timeouts().build()),
            region,
            read_only,
            base,
        })
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The same, but nothing that changes anything can be sent.
    pub fn read_only_copy(&self) -> Result<Self, Problem> {
        Self::from_config(self.base.clone(), true)
    }

    pub const fn read_only(&self) -> bool {
        self.read_only
    }

    /// The same account in another region.
    pub fn elsewhere(&self, region: &str) -> aws_sdk_ec2::Client {
        let base = self.base.to_builder().region(Region::new(region.to_owned())).build();
        ec2(&base, self.read_only, patience(), timeouts().build())
    }
}

/// HTTPS by rustls with ring; also `http://`.
pub fn http() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

fn timeouts() -> aws_config::timeout::TimeoutConfigBuilder {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).operation_timeout(CALL)
}

fn unlimited() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).disable_operation_attempt_timeout().disable_operation_timeout().build()
}

fn patience() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(TRIES)
}

fn ec2(base: &SdkConfig, read_only: bool, retry: RetryConfig, time: TimeoutConfig) -> aws_sdk_ec2::Client {
    let mut config = aws_sdk_ec2::config::Builder::from(base).retry_config(retry).timeout_config(time);
    if read_only {
        config = config.interceptor(ReadOnly);
    }
    aws_sdk_ec2::Client::from_conf(config.build())
}

fn ssm(base: &SdkConfig, read_only: bool, retry: RetryConfig, time: TimeoutConfig) -> aws_sdk_ssm::Client {
    let mut config = aws_sdk_ssm::config::Builder::from(base).retry_config(retry).timeout_config(time);
    if read_only {
        config = config.interceptor(ReadOnly);
    }
    aws_sdk_ssm::Client::from_conf(config.build())
}
