//! `iris qlist`.

#![no_main]

use engine::iris::parse::qlist;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let all = qlist::parse(&text);
    // A line is an instance or nothing, whatever stands around it.
    let single: Vec<_> = text.lines().flat_map(qlist::parse).collect();
    assert_eq!(all, single);
    for l in &all {
        assert!(!l.name.is_empty() && !(l.running() && l.down()), "{l:?}");
        let line = [&l.name, &l.install_dir, &l.version, &l.status, &l.cpf, "1", "2", "3"].map(ToString::to_string);
        let more = [&l.health, &l.product, &l.member_type, &l.mirror_status, &l.data_dir].map(ToString::to_string);
        let written = line.into_iter().chain(more).collect::<Vec<_>>().join("^");
        assert_eq!(qlist::parse(&written), [l.clone()]);
        // An older version says less, and nothing moves into another field.
        let older = qlist::parse(&written.splitn(9, '^').take(8).collect::<Vec<_>>().join("^"));
        assert_eq!((&older[0].status, &older[0].cpf, older[0].health.as_str(), older[0].data_dir.as_str()), (&l.status, &l.cpf, "", ""));
    }
});
