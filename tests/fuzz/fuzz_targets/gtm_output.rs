//! What `mumps`, `mupip dumpfhead` and `mupip freeze` print.

#![no_main]

use engine::gtm::{ask, output};
use libfuzzer_sys::fuzz_target;
use protocol::wire::Frozen;

const FROZEN: &str = "R\tZZ\t/d/zz.dat\t/j/zz.mjl\t0x996091\t4294967295\t1\t0x8D5F8\t0x8D57A\t2\t40\t0\t1024\t9\t0x682C\t7\t7\t0\t\n";

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let pieces = fuzz::pieces(&text);
    let fields = |l: &str| l.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let is_name = |n: &str| {
        let plain = n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$');
        plain && n.len() <= 31 && n.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let regions: Vec<_> = text.lines().filter(|l| l.starts_with("R\t")).map(fields).collect();
    let whole = regions.iter().all(|f| f.len() > 2 && is_name(&f[1]));
    let ended = text.lines().any(|l| l.starts_with("END\t") && fields(l).len() == 2);
    match ask::parse(&text) {
        Ok(seen) => {
            assert!(ended && whole);
            // Each line of a region is one that was read or one that is in trouble.
            assert_eq!(seen.regions.len() + seen.trouble.len(), regions.len());
            let no = !seen.regions.is_empty() && seen.trouble.is_empty() && seen.regions.iter().all(|r| !r.frozen);
            assert_eq!(seen.frozen() == Frozen::No, no);
            assert_eq!(seen.frozen_names().len(), seen.regions.iter().filter(|r| r.frozen).count());
            assert!(seen.regions.iter().all(|r| seen.region(&r.name).is_some()));
            // Nothing that is printed beside it makes a frozen region be overlooked.
            let more = ask::parse(&format!("{FROZEN}{text}")).expect("it still ends");
            assert_eq!(more.frozen(), Frozen::Yes);
        }
        // An answer that was cut off or names no region is none.
        Err(why) => assert!(!(ended && whole) && !why.contains('\n')),
    }
    let (out, err) = (pieces[0].as_str(), pieces.get(1).map_or("", String::as_str));
    if let Some(h) = ask::parse_header(out, err) {
        assert!(text.contains("record(\"sgmnt_data.freeze\")=") && text.contains(&h.journal), "{h:?}");
    }
    for r in output::renamed(&text) {
        assert!(!r.live.is_empty() && !r.closed.is_empty());
        let line = format!("%GTM-I-FILERENAME, File {} is renamed to {}", r.live, r.closed);
        assert_eq!(output::renamed(&line), [r]);
    }
    assert_eq!(output::renamed(out).len() + output::renamed(err).len(), output::renamed(&format!("{out}{err}")).len());
    assert!(output::was_autoreleased(&format!("{text}\n%GTM-W-OFRZNOTHELD, Online Freeze had been automatically released\n")));
    assert!(!output::was_autoreleased(&text) || text.contains("OFRZNOTHELD") || text.contains("autoreleased"));
    let shown = output::evidence(&text, 3);
    assert!(shown.len() <= 3 && shown.iter().all(|l| !l.is_empty() && !l.contains('\n')));
});
