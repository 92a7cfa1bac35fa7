//! Other tools that freeze the same host, as far as the host can see them. Two that freeze at once break each other's windows.

use engine::{Check, Level};
use std::path::{Path, PathBuf};

/// Files whose presence says it.
const SIGNS: [(&str, &str); 5] = [
    ("etc/vmware-tools/scripts/backupScripts.d", "VMware's tools run scripts at a quiesced snapshot"),
    ("usr/sbin/pre-freeze-script", "VMware's tools run a pre-freeze script"),
    ("etc/qemu/fsfreeze-hook.d", "the QEMU guest agent runs hooks at a frozen snapshot"),
    ("etc/qemu-ga/hook.d", "the QEMU guest agent runs hooks at a frozen snapshot"),
    ("opt/commvault", "a Commvault agent is installed"),
];

/// Where jobs are kept, and words that give a freeze away.
const JOBS: [&str; 8] = [
    "etc/crontab",
    "etc/cron.d",
    "etc/cron.hourly",
    "etc/cron.daily",
    "etc/cron.weekly",
    "var/spool/cron",
    "etc/systemd/system",
    // Where the SSM agent keeps the documents it was sent: a DLM script policy leaves its own there.
    "var/lib/amazon/ssm",
];
const WORDS: [&str; 7] = ["ExternalFreeze", "iris freeze", "instfreeze", "mupip freeze", "fsfreeze", "xfs_freeze", "pre-script"];
/// A directory of jobs is small; what is larger is not read.
const MAX_FILES: usize = 2_000;
const MAX_BYTES: u64 = 1 << 20;

/// `root` is `/`, or a recorded tree in tests.
pub fn look(root: &Path) -> Vec<Check> {
    let mut found: Vec<String> = SIGNS.iter().filter(|(p, _)| root.join(p).exists()).map(|(p, what)| format!("{what} (/{p})")).collect();
    let mut left = MAX_FILES;
    for j in JOBS {
        scan(root, &root.join(j), 6, &mut left, &mut found);
    }
    if found.is_empty() {
        return vec![Check { name: "other tools".into(), level: Level::Ok, text: "none seen that freezes this host".into() }];
    }
    let text = |f: String| format!("{f}: two that freeze at once break each other's windows; leave the freeze to one of them");
    found.into_iter().map(|f| Check { name: "other tools".into(), level: Level::Warn, text: text(f) }).collect()
}

fn scan(root: &Path, at: &Path, depth: u32, left: &mut usize, found: &mut Vec<String>) {
    let Ok(meta) = at.symlink_metadata() else { return };
    if *left == 0 || depth == 0 {
        return;
    }
    if meta.is_dir() {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(at).into_iter().flatten().flatten().map(|f| f.path()).collect();
        inside.sort();
        for p in inside {
            scan(root, &p, depth - 1, left, found);
        }
    } else if meta.is_file() && meta.len() <= MAX_BYTES {
        *left -= 1;
        let ours = at.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snapfreeze"));
        let text = std::fs::read(at).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let shown = at.strip_prefix(root).unwrap_or(at).display().to_string();
        if let (false, Some(w)) = (ours, WORDS.iter().find(|w| text.contains(**w))) {
            found.push(format!("/{shown} mentions {w:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_configurations_of_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let put = |p: &str, t: &str| {
            let p = dir.path().join(p);
            std::fs::create_dir_all(p.parent().unwrap()).unwrap();
            std::fs::write(p, t).unwrap();
        };
        put("etc/cron.d/ours", "0 1 * * * root snapfreeze backup --to /b");
        put("etc/systemd/system/snapfreeze.service", "# ExternalFreeze");
        let quiet = look(dir.path());
        assert_eq!((quiet.len(), quiet[0].level), (1, Level::Ok), "{quiet:?}");
        put("etc/qemu-ga/hook.d/x", "");
        put("etc/cron.d/old", "0 2 * * * root sh -c 'iris session IRIS \"##Class(Backup.General).ExternalFreeze()\"'");
        put("var/lib/amazon/ssm/i-1/document/orchestration/x/_script.sh", "irissession $INST ExternalFreeze");
        let loud = look(dir.path());
        assert_eq!(loud.iter().filter(|c| c.level == Level::Warn).count(), 3, "{loud:?}");
    }
}
