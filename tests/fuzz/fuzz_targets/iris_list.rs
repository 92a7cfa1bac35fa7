//! `iris list`.

#![no_main]

use engine::iris::parse::{Listed, list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let all = list::parse(&text);
    // One per block that has a name, in their order.
    let blocks: Vec<&str> = text.lines().filter_map(name).filter(|n| !n.is_empty()).collect();
    assert_eq!(all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), blocks);
    for l in &all {
        assert!(!(l.running() && l.down()), "{l:?}");
        assert!(!l.data().ends_with('/'), "{l:?}");
        for said in [&l.install_dir, &l.version, &l.status, &l.cpf, &l.health, &l.product, &l.member_type, &l.mirror_status, &l.data_dir] {
            assert!(text.contains(said.as_str()) && said.trim() == said, "{said:?} was not said");
        }
    }
    // Written as the engine writes it, it is read back.
    let written: String = all.iter().map(write).collect();
    assert_eq!(list::parse(&written), all);
    // A block says nothing about another one.
    let lines: Vec<&str> = text.lines().collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, l)| name(l).is_some()).take(8) {
        let mut parts = list::parse(&lines[..at].join("\n"));
        parts.extend(list::parse(&lines[at..].join("\n")));
        assert_eq!(parts, all);
    }
});

fn name(line: &str) -> Option<&str> {
    line.trim().strip_prefix("Configuration '").map(|r| r.split_once('\'').map_or(r, |(n, _)| n))
}

fn write(l: &Listed) -> String {
    let cpf = if l.cpf.is_empty() { String::new() } else { format!("{}  (SuperServer port = 1972)", l.cpf) };
    format!(
        "Configuration '{}'\n\tdirectory:    {}\n\tversionid:    {}\n\tdatadir:      {}\n\tconf file:    {}\n\tstatus:       {}\n\
         \tstate:        {}\n\tproduct:      {}\n\tmirroring: Member Type = {}; Status = {}\n",
        l.name, l.install_dir, l.version, l.data_dir, cpf, l.status, l.health, l.product, l.member_type, l.mirror_status
    )
}
