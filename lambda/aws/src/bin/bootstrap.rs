//! The process that Lambda starts: the Runtime API's loop around `aws::lambda::Function`.
#![recursion_limit = "256"]

use aws::lambda::Function;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::from_env();
    let function = &function;
    run(service_fn(async |e: LambdaEvent<Value>| function.handle(e.payload, e.context.deadline, &e.context.request_id).await)).await
}
