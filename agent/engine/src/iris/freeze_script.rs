//! The script that freezes.
//!
//! **A script that lands late must not freeze.** It may: a login can hang, and killing `docker exec` leaves what it
//! started. So the line before the call compares the time, and the call's own line how long ago that was. Two clocks,
//! as none alone is enough: `$ZTIMESTAMP` (UTC; the engine's kernel is ours, so its clock is too) against the wall time of our
//! deadline *and* of our sending, so that a clock which was set back is noticed as well; and `$ZHOROLOG` (seconds since
//! the instance started, "independent of clock changes") against the script's own first line. What remains, a clock set
//! back by just the time that the script is late, is covered by the machine: it asks after every killed freeze.

use super::freeze::Begin;
use super::script::{Script, nonce};
use super::{Iris, ask, quote};
use crate::FreezeOrder;
use doors::clock::boot_now;

/// `$ZTIMESTAMP` may lie this far before our sending without being a clock that was set back (rounding, slewing).
const CLOCK_SLACK_MS: i64 = 1_000;
/// Between the look at the clock and the call, two lines of a script, not more may pass.
const STEP_S: u32 = 1;

/// `%Dictionary.CompiledMethod`, the formal arguments of this version's ExternalFreeze.
pub(super) const FORMAL_SPEC: &str = "set sfd=##class(%Dictionary.CompiledMethod).%OpenId(\"Backup.General||ExternalFreeze\").FormalSpec";

impl Iris {
    /// The script and its nonce.
    pub(super) fn freeze_script(&self, order: &FreezeOrder, begin: &Begin) -> Result<(String, String), String> {
        let nonce = nonce().map_err(|e| e.to_string())?;
        let deadline = begin.wall.0 + order.by.since(begin.at) as i64;
        let (earliest, latest) = (seconds(begin.wall.0 - CLOCK_SLACK_MS), seconds(deadline));
        let mut s = Script::new(&nonce);
        s.line("set sfu=$ZHOROLOG,sfs=\"\",sfr=\"\",sfk=0,sfl=3,sfd=\"\",sfn=0,sfy=sfu,sfw=\"\"");
        s.say("PID", "$JOB");
        s.say("UP", "sfu");
        s.ask("MIR", ask::MIRROR);
        s.line(FORMAL_SPEC);
        s.line("set sfk=$select(sfd=\"\":11,sfd[\"RequiredFile\":11,sfd[\"WDSuspendLimit\":10,1:7)");
        s.say("CAP", "sfk");
        s.line(&format!("set sfw={}", ask::IS_SUSPENDED));
        s.say("BEFORE", "sfw");
        let calls = self.freeze_calls(order, begin, &mut s)?;
        let left = seconds(order.by.since(boot_now()) as i64);
        s.line(&format!("set sfa={earliest},sfb={latest},sfh={left},sfq=$ZERROR"));
        // Left to right, without precedence, as ObjectScript evaluates; 47117 is 1970-01-01.
        s.line("set sfz=$ZTIMESTAMP,sfn=$piece(sfz,\",\")-47117*86400+$piece(sfz,\",\",2)");
        s.line("set sfy=$ZHOROLOG,sfl=$select(sfn<sfa:2,sfn>sfb:1,sfy-sfu>sfh:1,1:0)");
        for (arguments, call) in calls {
            s.line(&format!("set:(sfk={arguments})&(sfl=0)&(sfw=0)&($ZHOROLOG-sfy<{STEP_S}) sfs={call}"));
        }
        s.line("set sfe=$ZHOROLOG");
        s.say("LATE", "sfl");
        s.say("AT", "sfn");
        s.say("TOOK", "sfe-sfy");
        s.say("SC", "$select(sfs=\"\":\"\",sfs:1,1:0)");
        s.ask("TEXT", "$select((sfs=\"\")&($ZERROR=sfq):\"\",sfs=\"\":$ZERROR,sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))");
        s.ask("WDS", ask::IS_SUSPENDED);
        s.say("REQ", "sfr");
        s.ask("CUR", ask::CURRENT_FILE);
        s.ask("OFF", ask::CURRENT_OFFSET);
        s.line("set sfi=\"\",sfo=\"\"");
        s.line("set sfx=##class(%SYS.Journal.System).GetImageJournalInfo(.sfi,.sfo)");
        s.say("IMG", "sfi");
        s.say("IMGOFF", "sfo");
        s.line("set sfc=3");
        s.line("set sfx=0");
        s.line(&format!("set sfx={}", ask::IS_SUSPENDED));
        s.line("set:(sfs=1)&(sfx=1) sfc=5");
        Ok((nonce, s.end("sfc")))
    }

    /// With 11, 10 and 7 arguments (class reference, Backup.General.ExternalFreeze). Texts go into variables first, so
    /// that no line grows long.
    fn freeze_calls(&self, order: &FreezeOrder, begin: &Begin, s: &mut Script) -> Result<[(u8, String); 3], String> {
        let c = &self.config;
        let login = self.thaw_login.as_ref();
        for (variable, value) in [
            ("sfg", &*begin.freeze_log.to_string_lossy()),
            ("sft", &c.text),
            ("sfp1", login.map_or("", |l| &l.user)),
            ("sfp2", login.map_or("", |l| &l.password)),
        ] {
            let literal = quote::literal(value).map_err(|e| e.to_string())?;
            s.line(&format!("set {variable}={literal}"));
        }
        let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
        let seven = format!(
            "sfg,sft,{},{},{},{},{}",
            u8::from(c.switch_journal),
            number(c.cluster_timeout),
            number(c.cluster_hibernate),
            number(c.cluster_verbose.map(u32::from)),
            order.rules.external_freeze_timeout_s
        );
        let ten = format!("{seven},sfp1,sfp2,{}", order.rules.wd_suspend_limit.secs().unwrap_or(0));
        let call = |args: &str| format!("##class(Backup.General).ExternalFreeze({args})");
        let old = if login.is_some() { format!("{seven},sfp1,sfp2") } else { seven };
        Ok([(11, call(&format!("{ten},.sfr"))), (10, call(&ten)), (7, call(&old))])
    }
}

/// Milliseconds as an ObjectScript number of seconds.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::super::Product;
    use super::super::config::IrisConfig;
    use super::*;
    use doors::clock::wall_now;
    use proptest::prelude::*;
    use protocol::window::Margins;
    use protocol::{HoldMs, OnOverrun, WindowRules};

    fn script_of(config: &IrisConfig, log: &str) -> Result<String, String> {
        let iris = Iris::open(config, Product::Iris).map_err(|e| e.to_string())?;
        let hold = HoldMs::new(30_000).unwrap();
        let rules = WindowRules::new(hold, OnOverrun::FailBackup, None, None, Margins::default());
        let order =
            FreezeOrder { id: "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap(), rules: rules.unwrap(), by: boot_now().plus(30_000) };
        let begin = Begin::new(boot_now(), wall_now(), log.into());
        iris.freeze_script(&order, &begin).map(|(_, script)| script)
    }

    fn config() -> IrisConfig {
        let mut c = IrisConfig::named("IRIS".parse().unwrap());
        c.program = Some("/bin/true".into());
        c.log_dir = "/tmp".into();
        c
    }

    /// What a script does: its lines without the literals that hold values.
    fn shape(script: &str) -> Vec<String> {
        let values = ["set sfg=", "set sft="];
        script
            .lines()
            .map(|l| match values.iter().find(|v| l.starts_with(*v)) {
                Some(v) => (*v).to_owned(),
                None => l.to_owned(),
            })
            .filter(|l| !l.contains("SNAPFREEZE-") && !l.starts_with("set sfa="))
            .collect()
    }

    #[test]
    fn every_argument_is_in_its_place() {
        let mut c = config();
        c.text = "night".into();
        c.cluster_timeout = Some(20);
        c.cluster_verbose = Some(true);
        let s = script_of(&c, "/run/f.log").unwrap();
        for line in [
            "set sfg=\"/run/f.log\"",
            "set sft=\"night\"",
            "set:(sfk=11)&(sfl=0)&(sfw=0)&($ZHOROLOG-sfy<1) sfs=##class(Backup.General).ExternalFreeze(sfg,sft,1,20,,1,600,sfp1,sfp2,120,.sfr)",
            "set:(sfk=10)&(sfl=0)&(sfw=0)&($ZHOROLOG-sfy<1) sfs=##class(Backup.General).ExternalFreeze(sfg,sft,1,20,,1,600,sfp1,sfp2,120)",
            "set:(sfk=7)&(sfl=0)&(sfw=0)&($ZHOROLOG-sfy<1) sfs=##class(Backup.General).ExternalFreeze(sfg,sft,1,20,,1,600)",
        ] {
            assert!(s.lines().any(|l| l == line), "{line}\n{s}");
        }
        assert!(s.lines().all(|l| l.len() < 255), "a terminal may cut longer lines");
    }

    proptest! {
        #[test]
        fn no_value_changes_what_the_script_does(text in "\\PC{0,60}", log in "/\\PC{0,60}") {
            let plain = shape(&script_of(&config(), "/x").unwrap());
            let mut c = config();
            c.text = text;
            if let Ok(s) = script_of(&c, &log) {
                prop_assert_eq!(shape(&s), plain);
            }
        }
    }
}
