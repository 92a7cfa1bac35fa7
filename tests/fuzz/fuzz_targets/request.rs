//! Bodies of the agent API, as they arrive from the network side: the order, and the answers that a caller reads.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use protocol::InstanceName;
use protocol::wire::{FreezeReply, FreezeRequest, FreezeState, FrozenReply, Problem, StatusReply, ThawReply};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    if let Some(r) = body::<FreezeRequest>(data) {
        for name in &r.instances {
            assert_eq!(InstanceName::try_from(name.to_string()).as_ref(), Ok(name));
        }
        assert_eq!(r.id.to_string().parse(), Ok(r.id));
        // A field that we do not know may be one that the sender relies on.
        let mut more = serde_json::to_value(&r).expect("it was read");
        more["hold"] = 1.into();
        assert!(serde_json::from_value::<FreezeRequest>(more).is_err());
    }
    let _ = order(&mut Unstructured::new(data)).map(|r| fuzz::comes_back(&r));
    body::<FreezeReply>(data);
    body::<FreezeState>(data);
    body::<FrozenReply>(data);
    body::<StatusReply>(data);
    body::<ThawReply>(data);
    body::<Problem>(data);
});

fn order(u: &mut Unstructured) -> Result<FreezeRequest> {
    Ok(FreezeRequest {
        id: fuzz::id(u)?,
        instances: (0..u.int_in_range(0..=4)?).map(|_| fuzz::name(u)).collect::<Result<_>>()?,
        hold_ms: u.arbitrary()?,
        issued_at: fuzz::moment(u)?,
        not_after: fuzz::moment(u)?,
        by: u.arbitrary()?,
    })
}

fn body<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let value = serde_json::from_slice(data).ok()?;
    fuzz::comes_back(&value);
    Some(value)
}
