//! The agent's journal entry: any bytes, and entries as they are written.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use protocol::outcome::{Part, Window, WindowState};
use protocol::{BootId, BootMs, Code, WallMs};
use snapfreeze::journal::{Entry, Intent, Outcome, done_slot, entry_file, parse, result_slot};

const INTENT: usize = 8 << 10;

fuzz_target!(|data: &[u8]| {
    if let Some(e) = parse(data) {
        again(&e);
    }
    // Past the checksum: an intent and an outcome as somebody else's JSON, a line each.
    let mut lines = data.split(|b| *b == b'\n');
    if let Some(intent) = lines.next().and_then(|l| serde_json::from_slice::<Intent>(l).ok())
        && let Some(file) = entry_file(&intent)
    {
        let e = parse(&file).expect("it was written");
        assert_eq!(e.intent, intent);
        let outcome = lines.next().and_then(|l| serde_json::from_slice(l).ok()).filter(|o| slim(o) == *o && result_slot(o).is_some());
        again(&Entry { outcome, done: data.len() % 2 == 0, ..e });
    }
    let _ = written(&mut Unstructured::new(data));
});

/// What was read can be written, and is read back.
fn again(e: &Entry) {
    let mut file = entry_file(&e.intent).expect("it was in a slot");
    if let Some(o) = &e.outcome {
        put(&mut file, result_slot(o));
    }
    if e.done {
        put(&mut file, done_slot());
    }
    assert_eq!(parse(&file).as_ref(), Some(e));
}

fn written(u: &mut Unstructured) -> Result<()> {
    let (intent, outcome) = (intent(u)?, outcome(u)?);
    let Some(mut file) = entry_file(&intent) else {
        return Ok(());
    };
    let open = Entry { intent, outcome: None, done: false };
    assert_eq!(parse(&file), Some(open.clone()));
    // A bit that turned in the intent is damage.
    for _ in 0..2 {
        let bit = u.int_in_range(0..=INTENT * 8 - 1)?;
        flip(&mut file, bit);
        assert_eq!(parse(&file), None, "bit {bit} turned");
        flip(&mut file, bit);
    }
    let before = file.clone();
    if let Some((at, slot)) = result_slot(&outcome) {
        put(&mut file, Some((at, slot.clone())));
        let e = parse(&file).expect("its intent is as it was");
        let stored = e.outcome.expect("it fits");
        assert_eq!(slim(&stored), slim(&outcome));
        // Torn anywhere it is no result, never another one.
        let cut = u.int_in_range(0..=slot.len())?;
        let mut torn = before;
        put(&mut torn, Some((at, slot[..cut].to_vec())));
        let torn = parse(&torn).expect("its intent is as it was");
        assert!(torn.outcome.is_none_or(|o| o == stored) && !torn.done);
    }
    put(&mut file, done_slot());
    assert!(parse(&file).is_some_and(|e| e.done && e.intent == open.intent));
    // Turned bits behind the intent lose a result at most.
    let bit = u.int_in_range(INTENT * 8..=file.len() * 8 - 1)?;
    let whole = parse(&file).and_then(|e| e.outcome);
    flip(&mut file, bit);
    let e = parse(&file).expect("its intent is as it was");
    assert!(e.intent == open.intent && (e.outcome.is_none() || e.outcome == whole), "bit {bit} turned");
    Ok(())
}

fn put(file: &mut [u8], slot: Option<(u64, Vec<u8>)>) {
    let (at, bytes) = slot.expect("it was in a slot");
    file[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
}

fn flip(file: &mut [u8], bit: usize) {
    file[bit / 8] ^= 1 << (bit % 8);
}

/// Without what may be left out for room.
fn slim(o: &Outcome) -> Outcome {
    let mut o = o.clone();
    if let Some(w) = &mut o.window {
        w.evidence.clear();
        w.parts.clear();
    }
    o
}

fn intent(u: &mut Unstructured) -> Result<Intent> {
    Ok(Intent {
        schema: u.arbitrary()?,
        id: fuzz::id(u)?,
        rules: fuzz::rules(u)?,
        instances: (0..u.int_in_range(0..=4)?).map(|_| fuzz::name(u)).collect::<Result<_>>()?,
        by: u.arbitrary()?,
        thaw_by: BootMs(u.arbitrary()?),
        freeze_by: BootMs(u.arbitrary()?),
        boot_id: BootId(u.arbitrary()?),
        at: WallMs(u.arbitrary()?),
        tombstone: u.arbitrary()?,
    })
}

fn outcome(u: &mut Unstructured) -> Result<Outcome> {
    let window = if u.arbitrary()? { Some(window(u)?) } else { None };
    let fault = *u.choose(&[None, Some(Code::Internal), Some(Code::Interrupted), Some(Code::RefusedLate)])?;
    Ok(Outcome { window, fault, guard: Option::<u64>::map(u.arbitrary()?, BootMs) })
}

fn window(u: &mut Unstructured) -> Result<Window> {
    Ok(Window {
        backup_id: fuzz::id(u)?,
        state: if u.arbitrary()? { WindowState::Unbroken } else { WindowState::Broken(fuzz::reason(u)?) },
        frozen_at: fuzz::moment(u)?,
        thawed_at: fuzz::moment(u)?,
        window_ms: u.arbitrary()?,
        parts: (0..u.int_in_range(0..=3)?)
            .map(|_| Ok(Part { name: u.arbitrary()?, at_ms: u.arbitrary()?, took_ms: u.arbitrary()? }))
            .collect::<Result<_>>()?,
        marks: fuzz::marks(u)?,
        // Now and then more than the slot has room for.
        evidence: {
            let line: String = u.arbitrary()?;
            let times = *u.choose(&[0, 1, 3, 100, 5000])?;
            vec![line; times]
        },
    })
}
