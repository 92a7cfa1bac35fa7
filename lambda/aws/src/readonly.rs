//! The client of `--dry-run`: it cannot send a call that changes anything, whatever the code above it does.

use aws_sdk_ec2::operation::create_snapshots::CreateSnapshotsInput;
use aws_sdk_ssm::operation::send_command::SendCommandInput;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeSerializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

#[derive(Debug)]
pub(crate) struct ReadOnly;

#[derive(Debug, thiserror::Error)]
#[error("{0} would change something; this is a dry run, it was not sent")]
struct WouldChange(String);

impl Intercept for ReadOnly {
    fn name(&self) -> &'static str {
        "snapfreeze read-only"
    }

    // The first hook at which a call's name is known.
    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let rehearsal = context.input().downcast_ref::<CreateSnapshotsInput>().is_some_and(|i| i.dry_run == Some(true));
        let asks = context.input().downcast_ref::<SendCommandInput>().is_some_and(|i| only_asks(i.document_name()));
        // A call without a name is refused as well.
        let name = cfg.load::<Metadata>().map_or("a call without a name", Metadata::name);
        if rehearsal || asks || reads(name) { Ok(()) } else { Err(WouldChange(name.to_owned()).into()) }
    }
}

/// A command can do anything; the documents of these two change nothing in the cloud or in a database (infra/aws/documents.yaml);
/// `facts` leaves the agent's host file in the file systems.
fn only_asks(document: Option<&str>) -> bool {
    document.is_some_and(|d| d.ends_with("-facts") || d.ends_with("-status"))
}

/// EC2 and SSM keep to this naming.
fn reads(operation: &str) -> bool {
    ["Describe", "Get", "List"].iter().any(|verb| operation.starts_with(verb))
}
