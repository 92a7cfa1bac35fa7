//! Asking GT.M for its state, changing nothing: one `mumps` process reads every region's header by `%PEEKBYNAME`.
//!
//! Chosen over `mupip dumpfhead` because one process of about 10 ms answers for all regions (dumpfhead: 30 to 40 ms for
//! two), reads the shared memory that the writers obey, and knows the inode of the journal that is being written.
//! Neither waits for the freeze. Where the shared memory is gone (REQRECOV), only dumpfhead can still read the file.

use super::call::{Caller, Tool, one_line};
use super::config::is_region_name;
use doors::exec::{Cancel, Ended};
use protocol::BootMs;
use protocol::wire::Frozen;

/// `%XCMD`'s argument. Fixed text: no name from outside is ever put into it. One line per region, separated by tabs,
/// a field that this version does not know is `?`; the last line proves that nothing was cut off.
const ASK: &str = concat!(
    r#"set t=$char(9),h="set v=""?"" set:e="""" e=$zstatus set $ecode="""" quit","#,
    r#"z="new $etrap set $etrap=h set v=$$^%PEEKBYNAME(f,r,x)",u="new $etrap set $etrap=h set v=$view(""GVFILE"",r)","#,
    r#"y="set e="""",x=""X"",f=""node_local.jnl_file.u.inode"" xecute z set i=v,x="""",f=""sgmnt_data.jnl_file_name"" xecute z set j=v"#,
    r#" xecute u write !,""R"",t,r,t,v,t,$piece(j,$char(0)),t,i","#,
    r#"w="for f=""sgmnt_data.freeze"",""node_local.freeze_online"",""sgmnt_data.trans_hist.curr_tn"",""sgmnt_data.jnl_eovtn"",""sgmnt_data.jnl_state"","#,
    r#"""sgmnt_data.shmid"",""sgmnt_data.file_corrupt"",""sgmnt_data.n_bts"",""node_local.wcs_active_lvl"",""node_local.gvstats_rec.n_dsk_write"","#,
    r#"""sgmnt_data.trans_hist.free_blocks"",""node_local.ref_cnt"",""node_local.freeze_latch.u.parts.latch_pid"" xecute z write t,v","#,
    r#"a="set r="""" for  set r=$view(""GVNEXT"",r) quit:r=""""  xecute y,w write t,e" xecute a write !,"END",t,$zversion,!"#,
);

/// One region, as its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub name: String,
    pub file: String,
    /// The live journal's name; empty without journaling.
    pub journal: String,
    /// Its inode; 0 while nobody has it open.
    pub journal_inode: u64,
    /// `sgmnt_data.freeze` is not 0: by `-online` or without.
    pub frozen: bool,
    /// `node_local.freeze_online` as bits: 1 online, 2 may be released by the engine, 4 was released by it.
    pub online: Option<u32>,
    pub tn: u64,
    /// Transaction number at which the live journal began: that of the last switch.
    pub switched_tn: Option<u64>,
    /// 0 not enabled, 1 off, 2 on.
    pub journal_state: u32,
    pub shmid: Option<i64>,
    pub corrupt: bool,
    pub buffers: Option<u64>,
    /// Buffers that are dirty now.
    pub dirty: Option<u64>,
    /// Blocks written to disk since the database was opened.
    pub written: Option<u64>,
    pub free_blocks: Option<u64>,
    pub processes: Option<u64>,
    /// The process that holds the freeze latch: a `mupip freeze` at work, or one that was killed.
    pub latch: Option<u32>,
}

/// A region that could not be asked, in GT.M's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub name: String,
    pub file: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    pub version: String,
    pub regions: Vec<Region>,
    pub trouble: Vec<Trouble>,
}

impl Seen {
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|r| r.name == name)
    }

    pub fn frozen_names(&self) -> Vec<&str> {
        let frozen = self.regions.iter().filter(|r| r.frozen);
        frozen.map(|r| r.name.as_str()).collect()
    }

    /// One frozen region is a frozen database; one that cannot be asked is no "no".
    pub fn frozen(&self) -> Frozen {
        if self.regions.iter().any(|r| r.frozen) {
            Frozen::Yes
        } else if let Some(t) = self.trouble.first() {
            Frozen::Unknown(format!("region {}: {}", t.name, t.text))
        } else if self.regions.is_empty() {
            Frozen::Unknown("the global directory has none of the configured regions".into())
        } else {
            Frozen::No
        }
    }
}

impl Caller {
    /// Asks all configured regions. `Err`: no answer at all, in one line.
    pub fn ask(&self, by: BootMs, cancel: Option<&Cancel>) -> Result<Seen, String> {
        let out = self.read_m(ASK, "END", by, cancel).map_err(|e| e.to_string())?;
        // A complete answer counts however the process ended.
        let mut seen = parse(&out.out()).map_err(|why| match out.ended {
            Ended::Exited(0) => why,
            Ended::Exited(code) => format!("mumps answered {code}: {}", one_line(&out)),
            Ended::Signaled(s) => format!("mumps was ended by signal {s}"),
            Ended::TimedOut => "mumps did not answer in time".into(),
            Ended::Cancelled => "cancelled".into(),
        })?;
        seen.regions.retain(|r| self.config.wants(&r.name));
        seen.trouble.retain(|t| self.config.wants(&t.name));
        self.without_shared_memory(&mut seen, by);
        Ok(seen)
    }

    /// REQRECOV: the host was rebooted or the shared memory was removed, so no process can open the region. What its
    /// file says is then all there is. A header without a freeze is "not frozen"; one with it stays "unknown" until
    /// somebody has recovered the database, for recovery is not ours to start.
    fn without_shared_memory(&self, seen: &mut Seen, by: BootMs) {
        for t in std::mem::take(&mut seen.trouble) {
            if !t.text.contains("REQRECOV") {
                seen.trouble.push(t);
                continue;
            }
            let dump = self.run(Tool::Mupip, &["dumpfhead", "-region", &t.name], by, None).map(|o| parse_header(&o.out(), &o.err()));
            let text = match dump {
                Ok(Some(header)) if header.freeze == 0 => {
                    seen.regions.push(Region {
                        name: t.name,
                        file: t.file,
                        journal: header.journal,
                        journal_inode: 0,
                        frozen: false,
                        online: None,
                        tn: header.tn,
                        switched_tn: None,
                        journal_state: header.journal_state,
                        shmid: None,
                        corrupt: true,
                        buffers: None,
                        dirty: None,
                        written: None,
                        free_blocks: None,
                        processes: None,
                        latch: None,
                    });
                    continue;
                }
                Ok(Some(_)) => format!(
                    "needs recovery after a reboot or crash (REQRECOV), and its file header still carries the freeze. \
                     Nobody can write until `{}` has run; it releases the freeze too",
                    self.typed(Tool::Mupip, &["journal", "-recover", "-backward", "*"])
                ),
                Ok(None) => format!("needs recovery, and its header cannot be read: {}", t.text),
                Err(e) => format!("needs recovery, and its header cannot be read: {e}"),
            };
            seen.trouble.push(Trouble { text, ..t });
        }
    }
}

/// Reads what [`ASK`] wrote.
pub fn parse(out: &str) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut ended = false;
    for line in out.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["R", name, file, rest @ ..] if is_region_name(name) => match region(name, file, rest) {
                Ok(r) => seen.regions.push(r),
                Err(text) => seen.trouble.push(Trouble { name: (*name).to_owned(), file: (*file).to_owned(), text }),
            },
            // One region less would be one that may be frozen.
            ["R", name, ..] => return Err(format!("mumps named a region {name:?}")),
            ["END", version] => {
                seen.version = (*version).to_owned();
                ended = true;
            }
            _ => {}
        }
    }
    if ended { Ok(seen) } else { Err(format!("mumps answered something else: {:?}", out.chars().take(200).collect::<String>())) }
}

fn region(name: &str, file: &str, rest: &[&str]) -> Result<Region, String> {
    let [journal, inode, freeze, online, tn, switched, jnl_state, shmid, corrupt, buffers, dirty, written, free, refs, latch, error] = rest
    else {
        return Err("its line is incomplete".into());
    };
    let whole = || -> Option<Region> {
        Some(Region {
            name: name.into(),
            file: file.into(),
            journal: if *journal == "?" { String::new() } else { (*journal).into() },
            journal_inode: number(inode).unwrap_or(0),
            frozen: number(freeze)? != 0,
            online: number(online).and_then(|n| u32::try_from(n).ok()),
            tn: number(tn)?,
            switched_tn: number(switched),
            journal_state: u32::try_from(number(jnl_state)?).ok()?,
            shmid: shmid.parse().ok(),
            corrupt: number(corrupt)? != 0,
            buffers: number(buffers),
            dirty: number(dirty),
            written: number(written),
            free_blocks: number(free),
            processes: number(refs),
            latch: number(latch).and_then(|n| u32::try_from(n).ok()).filter(|n| *n != 0),
        })
    };
    whole().ok_or_else(|| if error.is_empty() { "its header could not be read".into() } else { (*error).to_owned() })
}

/// Decimal or `0x…`, as `%PEEKBYNAME` writes numbers by their type.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What of `mupip dumpfhead` is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub freeze: u64,
    pub tn: u64,
    pub journal_state: u32,
    pub journal: String,
}

/// Reads `record("sgmnt_data.freeze")=0` and its neighbours; GT.M 7.0 prints on both streams.
pub fn parse_header(out: &str, err: &str) -> Option<Header> {
    let value = |name: &str| {
        out.lines().chain(err.lines()).find_map(|l| l.strip_prefix("record(\"sgmnt_data.")?.strip_prefix(name)?.strip_prefix("\")="))
    };
    Some(Header {
        freeze: number(value("freeze")?)?,
        tn: value("trans_hist.curr_tn").and_then(|v| number(v.trim_matches('"'))).unwrap_or(0),
        journal_state: value("jnl_state").and_then(number).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        journal: value("jnl_file_name").and_then(|v| v.strip_prefix('"')?.split('"').next()).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "R\tACC\t/d/acc.dat\t/j/acc.mjl\t0x0000000000996091\t4294967295\t1\t0x000000000008D5F8\t0x000000000008D57A\t2\t40\t0\t1024\t9\t0x682C\t7\t7\t0\t";

    #[test]
    fn a_region_is_read() {
        let s = parse(&format!("\n{LINE}\nEND\tGT.M V7.0-005 Linux x86_64\n")).unwrap();
        let r = &s.regions[0];
        assert_eq!((r.frozen, r.online, r.tn, r.switched_tn), (true, Some(1), 0x8D5F8, Some(0x8D57A)));
        assert_eq!((r.journal.as_str(), r.journal_inode), ("/j/acc.mjl", 0x996091));
        assert_eq!((s.frozen(), s.version.as_str()), (Frozen::Yes, "GT.M V7.0-005 Linux x86_64"));
    }

    #[test]
    fn a_region_that_cannot_be_asked_is_unknown_but_another_frozen_one_is_yes() {
        let bad = "R\tX\t/d/x\t?\t?\t?\t?\t?\t?\t?\t?\t?\t?\t?\t?\t?\t?\t?\t150,x,%GTM-E-DBOPNERR, no";
        let s = parse(&format!("{bad}\nEND\tv\n")).unwrap();
        assert!(matches!(s.frozen(), Frozen::Unknown(t) if t.contains("DBOPNERR")));
        let s = parse(&format!("{bad}\n{LINE}\nEND\tv\n")).unwrap();
        assert_eq!(s.frozen(), Frozen::Yes);
    }

    #[test]
    fn a_damaged_name_is_no_answer_and_not_one_region_less() {
        let why = parse(&format!("{LINE}\n{}\nEND\tv\n", LINE.replace("ACC", "-A C"))).unwrap_err();
        assert_eq!(why, "mumps named a region \"-A C\"");
    }

    #[test]
    fn an_answer_that_was_cut_off_or_names_no_region_is_never_a_no() {
        assert!(parse(LINE).is_err() && parse("").is_err());
        assert!(matches!(parse("END\tv").unwrap().frozen(), Frozen::Unknown(_)));
    }

    #[test]
    fn the_file_header_is_read() {
        let h = parse_header(
            "record(\"sgmnt_data.freeze\")=4294967295\nrecord(\"sgmnt_data.freeze_on_fail\")=0\n\
            record(\"sgmnt_data.jnl_state\")=2\nrecord(\"sgmnt_data.jnl_file_name\")=\"/j/a.mjl\"_$C(0,0)\n\
            record(\"sgmnt_data.trans_hist.curr_tn\")=\"0x0000000000000010\"\n",
            "",
        )
        .unwrap();
        assert_eq!(h, Header { freeze: 4_294_967_295, tn: 16, journal_state: 2, journal: "/j/a.mjl".into() });
        assert_eq!(parse_header("%GTM-E-DBOPNERR", ""), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(out in "(\\PC|\t|\n|R\t|END\t|record\\(\"sgmnt_data\\.freeze\"\\)=|0x){0,80}") {
            let _ = parse(&out);
            let _ = parse_header(&out, &out);
        }
        #[test]
        fn a_damaged_line_never_turns_frozen_into_not_frozen(cut in 0usize..LINE.len()) {
            if let Ok(s) = parse(&format!("{}\nEND\tv\n", &LINE[..cut])) {
                prop_assert_ne!(s.frozen(), Frozen::No);
            }
        }
    }
}
