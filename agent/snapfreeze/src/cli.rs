//! The command line. Exit codes and verbs are the contract's; each verb's help has examples.

use clap::{Args, Parser, Subcommand};
use protocol::{BackupId, InstanceName, WallMs};
use std::path::PathBuf;

#[derive(Parser, Debug)]
#[command(
    name = "snapfreeze",
    version,
    about = "Application-consistent snapshots of databases that hold their writes for a moment",
    long_about = "Freezes an IRIS, Caché or GT.M database, lets a snapshot be taken, thaws it, and says whether the freeze held.\n\nFrozen right now?  sudo snapfreeze thaw",
    after_help = "Exit codes: 0 done · 1 other · 2 usage or configuration · 3 thawed, but broken · 4 refused, nothing frozen ·\n6 freeze failed, thawed · 7 snapshot failed, thawed · 8 LEFT FROZEN, act now · 9 cloud refused · 10 no agent · 130 interrupted, thawed.\n\nExamples:\n  snapfreeze check\n  snapfreeze backup --to /backup\n  snapfreeze list --to /backup"
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Args, Debug)]
pub struct Common {
    /// Configuration file
    #[arg(long, global = true, env = "SNAPFREEZE_CONFIG", default_value = crate::config::DEFAULT_PATH, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON object per line instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// With --json: the line before the last one compressed, for a channel that keeps 4 KiB (Azure Run Command)
    #[arg(long, global = true, requires = "json", hide_short_help = true)]
    pub packed: bool,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// The daemon (run by the service manager)
    Agent,
    #[command(hide = true)]
    Watchdog,
    /// Is anything frozen, since when, by whom, when will it thaw
    #[command(after_help = "Works without an agent, without a login to the database and with a broken configuration.")]
    Status(Status),
    /// Everything that can be known before a freeze, one line each
    #[command(after_help = "Examples:\n  snapfreeze check\n  snapfreeze check --nagios --to /backup")]
    Check(Check),
    /// What a coordinator decides on before a freeze: instances, volumes, limits, and what would be refused now
    #[command(
        after_help = "Freezes nothing. With --id it leaves .snapfreeze/snapfreeze-host.json in each file system that lies on a cloud volume, for a\nrestore of the snapshots. Ends with 0 even when a freeze would be refused: that stands in the answer.\n\nExample:\n  snapfreeze facts --json --hold 60s"
    )]
    Facts(Facts),
    /// Freeze, write the page cache to the disks, and answer; the host thaws by itself when the hold is over
    #[command(
        after_help = "A snapshot of a disk sees only what was written to it: half of the hold, at most 30 s, is for that; when it is\nnot enough, thawed again. --no-sync leaves it out, for a snapshot that sees the page cache, such as a copy on this host.\n\nExamples:\n  id=$(snapfreeze freeze --hold 30s --print-id) && make-snapshot; snapfreeze thaw --id \"$id\"\n  id=$(snapfreeze freeze --no-sync --hold 30s --print-id) && cp -a /data /copy; snapfreeze thaw --id \"$id\""
    )]
    Freeze(Freeze),
    /// Is the write daemon suspended? One line per instance
    Frozen,
    /// Thaw one freeze by its id, or, without an id, whatever is frozen by every means
    #[command(
        after_help = "Examples:\n  sudo snapfreeze thaw                      emergency: every rung of the ladder, each printed\n  snapfreeze thaw --id 0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e"
    )]
    Thaw(Thaw),
    /// Freeze, ask, thaw; no snapshot
    #[command(after_help = "Run it once after installation and then weekly:\n  snapfreeze rehearse --hold 5s")]
    Rehearse(Rehearse),
    /// How to prepare an engine
    Setup(Setup),
    /// The whole job on this host: freeze, local snapshot, thaw, verdict
    #[command(
        after_help = "Examples:\n  snapfreeze backup --to /backup\n  snapfreeze backup --to /backup --snapshotter reflink --path /data --hold 20s\n  snapfreeze backup --json --by nightly      snapshotter, helper and directory as configured"
    )]
    Backup(Backup),
    /// The contracts of other schedulers: AWS Data Lifecycle Manager, Azure Backup
    Hook(Hook),
    /// The local catalogue
    List(Where),
    /// One backup with its window and journals
    Show(One),
    /// Compare a set with its manifest, file by file
    Verify(One),
    /// Keep a backup whatever the retention says
    #[command(
        after_help = "Examples:\n  snapfreeze keep ID --until 2027-01-31 --reason \"before the upgrade\"\n  snapfreeze keep ID --drop"
    )]
    Keep(Keep),
    /// What retention would remove; removes it with --yes
    Prune(Prune),
    /// Save the journals that are written after a backup in another place; what is saved there
    Journals(Journals),
    /// Restore a set, a step at a time: plan, run, resume after a crash
    Restore(Restore),
    /// Does a backup come back? Restores it into a place of its own, rolls it forward, checks it, and writes down what it showed
    #[command(
        after_help = "Nothing of the instance that was backed up is touched. IRIS and Caché need an instance that is for drills alone ([drill] instance).\n\nExamples:\n  snapfreeze drill latest\n  snapfreeze drill ID --to /backup --in /big/disk\n  snapfreeze drill --tidy        after a drill that was killed"
    )]
    Drill(Drill),
    /// Writes the present moment into the database, so that a drill sees how new a backup is; run it by a timer
    #[command(after_help = "Example:\n  snapfreeze sentinel        every instance with a [drill.sentinel.NAME] table")]
    Sentinel(SentinelArgs),
    /// Figures for node_exporter's textfile collector
    Metrics(Metrics),
    /// A support bundle without secrets
    Diagnose(Diagnose),
    /// The page of an error
    Explain {
        /** Error name, such as Freeze.Refused.Late; without it, all names */
        code: Option<String>,
    },
    /// Shell completions
    Completions { shell: clap_complete::Shell },
    #[command(hide = true)]
    Man { dir: PathBuf },
}

#[derive(Args, Debug)]
pub struct Check {
    /// One line and exit codes 0–3 for Nagios
    #[arg(long)]
    pub nagios: bool,
    /// Look at the age of the last held set here
    #[arg(long, value_name = "DIR")]
    pub to: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Status {
    /// Repeated in the last line of --json, for a caller far away
    #[arg(long)]
    pub id: Option<BackupId>,
}

#[derive(Args, Debug)]
pub struct Facts {
    /// The backup that is planned; an id that was used already is named as a problem
    #[arg(long)]
    pub id: Option<BackupId>,
    /// The hold that is planned; the configured one when left out
    #[arg(long, value_parser = duration_ms)]
    pub hold: Option<u64>,
    /// Only these instances
    #[arg(long = "instance", value_name = "NAME")]
    pub instances: Vec<InstanceName>,
}

#[derive(Args, Debug)]
pub struct Hook {
    #[command(subcommand)]
    pub of: HookOf,
}

#[derive(Subcommand, Debug)]
pub enum HookOf {
    /// AWS Data Lifecycle Manager: pre and post script of one snapshot. Ends with DLM's own codes
    #[command(
        after_help = "Exit codes: 0 frozen (pre), window unbroken (post), ready (dry-run) · 1 bad parameter · 201 pre failed · 202 post failed ·\n203 thawed by itself before post · 204 frozen already · 205 thawed already · 206 not ready.\n\nExample:\n  snapfreeze hook dlm pre --execution-id 0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e"
    )]
    Dlm {
        stage: DlmStage,
        /// DLM's executionId; names the freeze. `None` only for dry-run
        #[arg(long, value_name = "UUID", default_value = "None")]
        execution_id: String,
    },
    /// Azure Backup: pre and post script of one recovery point, called by its plug-in host
    #[command(
        after_help = "0 means: frozen and on the disks (pre); the window was unbroken and open when post began (post). Anything else is a failure\nto Azure; the codes are those of every verb. One of both runs by hand thaws, too:  snapfreeze hook azure-backup post\n\nInstall it with the files in /usr/share/doc/snapfreeze/azure-backup, then:  snapfreeze check"
    )]
    AzureBackup {
        stage: AzureStage,
        #[arg(hide = true, value_parser = empty)]
        empty: Vec<()>,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureStage {
    Pre,
    Post,
}

/// Azure's shipped configuration passes two empty arguments.
fn empty(s: &str) -> Result<(), String> {
    if s.is_empty() { Ok(()) } else { Err("this verb has no arguments of its own; only empty ones are passed over".into()) }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DlmStage {
    #[value(alias = "pre-script")]
    Pre,
    #[value(alias = "post-script")]
    Post,
    DryRun,
}

impl Verb {
    /// What must work in an emergency works with a broken configuration.
    pub fn works_unconfigured(&self) -> bool {
        let post =
            |h: &HookOf| matches!(h, HookOf::Dlm { stage: DlmStage::Post, .. } | HookOf::AzureBackup { stage: AzureStage::Post, .. });
        matches!(self, Self::Status(_) | Self::Frozen | Self::Thaw(_)) || matches!(self, Self::Hook(h) if post(&h.of))
    }

    /// For the last line of `--json`.
    pub fn backup_id(&self) -> Option<BackupId> {
        match self {
            Self::Freeze(a) => a.id,
            Self::Thaw(a) => a.id,
            Self::Status(a) => a.id,
            Self::Facts(a) => a.id,
            Self::Backup(a) => a.id,
            Self::Restore(Restore { of: RestoreOf::Mount(a) }) => Some(a.id),
            Self::Restore(Restore { of: RestoreOf::Unmount { id } }) => Some(*id),
            Self::Hook(Hook { of: HookOf::Dlm { execution_id, .. } }) => execution_id.parse().ok(),
            _ => None,
        }
    }

    /// A hook's caller knows other codes than ours.
    pub fn own_code(&self, p: &protocol::wire::Problem) -> Option<u8> {
        match self {
            Self::Hook(Hook { of: HookOf::Dlm { .. } }) => Some(crate::verbs::hook::dlm::code_before(p)),
            _ => None,
        }
    }
}

#[derive(Args, Debug)]
pub struct Freeze {
    /// Made once by the caller, before anything that may be retried; made here when left out
    #[arg(long)]
    pub id: Option<BackupId>,
    /// How long it may stay frozen, such as 30s (1s to 1179s)
    #[arg(long, value_parser = duration_ms)]
    pub hold: Option<u64>,
    /// When the order was sent (RFC 3339 or Unix milliseconds)
    #[arg(long, value_parser = instant)]
    pub issued_at: Option<WallMs>,
    /// Until when it may be carried out
    #[arg(long, value_parser = instant, requires = "issued_at")]
    pub not_after: Option<WallMs>,
    /// Only these instances
    #[arg(long = "instance", value_name = "NAME")]
    pub instances: Vec<InstanceName>,
    /// Who asks, for status and records
    #[arg(long, default_value = "command line")]
    pub by: String,
    /// Leave the page cache unwritten: only where the snapshot sees it, such as a copy on this host
    #[arg(long)]
    pub no_sync: bool,
    /// Print the id alone
    #[arg(long, conflicts_with = "json")]
    pub print_id: bool,
}

#[derive(Args, Debug)]
pub struct Thaw {
    #[arg(long)]
    pub id: Option<BackupId>,
    /// Only a freeze that this name asked for (`freeze --by`)
    #[arg(long, requires = "id")]
    pub by: Option<String>,
}

#[derive(Args, Debug)]
pub struct Rehearse {
    /// Hold of the rehearsal
    #[arg(long, value_parser = duration_ms, default_value = "10s")]
    pub hold: u64,
    #[arg(long = "instance", value_name = "NAME")]
    pub instances: Vec<InstanceName>,
}

#[derive(Args, Debug)]
pub struct Setup {
    #[command(subcommand)]
    pub engine: SetupEngine,
}

#[derive(Subcommand, Debug)]
pub enum SetupEngine {
    /// OS authentication and the smallest role for IRIS and Caché
    Iris {
        /// Print the steps (nothing is changed by this verb)
        #[arg(long)]
        print: bool,
        #[arg(long = "instance", value_name = "NAME")]
        instance: Option<InstanceName>,
    },
}

#[derive(Args, Debug)]
pub struct Backup {
    /// The set is made below this directory, named by its id; the first of [backup].to when left out
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// auto, btrfs, reflink, copy or command
    #[arg(long)]
    pub snapshotter: Option<String>,
    /// Paths to take; everything the engine names when left out
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[arg(long, value_parser = duration_ms)]
    pub hold: Option<u64>,
    #[arg(long = "instance", value_name = "NAME")]
    pub instances: Vec<InstanceName>,
    #[arg(long)]
    pub id: Option<BackupId>,
    /// When the order was sent (RFC 3339 or Unix milliseconds)
    #[arg(long, value_parser = instant)]
    pub issued_at: Option<WallMs>,
    /// Until when it may be carried out
    #[arg(long, value_parser = instant, requires = "issued_at")]
    pub not_after: Option<WallMs>,
    /// Who asks, for status and records
    #[arg(long, default_value = "backup")]
    pub by: String,
    /// Name of the policy that ordered it, for the tags
    #[arg(long, default_value = "")]
    pub policy: String,
    /// The helper of the command snapshotter, all that follows: --command PROGRAM ARG…
    #[arg(long, num_args = 1.., value_name = "WORD", allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Do everything up to the freeze, and stop there
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct Where {
    /// Catalogue directories; [backup].to of the configuration when left out
    #[arg(long, value_name = "DIR")]
    pub to: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub struct One {
    /// Backup id, or `latest`
    pub id: String,
    #[command(flatten)]
    pub place: Where,
}

#[derive(Args, Debug)]
pub struct Keep {
    pub id: String,
    #[command(flatten)]
    pub place: Where,
    /// Until this day (2027-01-31); for ever when left out
    #[arg(long)]
    pub until: Option<String>,
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Do not keep it any longer
    #[arg(long, conflicts_with_all = ["until", "reason"])]
    pub drop: bool,
}

#[derive(Args, Debug)]
pub struct Prune {
    #[command(flatten)]
    pub place: Where,
    #[arg(long)]
    pub keep_last: Option<u32>,
    #[arg(long)]
    pub keep_daily: Option<u32>,
    #[arg(long)]
    pub keep_weekly: Option<u32>,
    #[arg(long)]
    pub keep_monthly: Option<u32>,
    /// Remove what was listed
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub struct Journals {
    #[command(subcommand)]
    pub of: JournalsOf,
}

#[derive(Subcommand, Debug)]
pub enum JournalsOf {
    /// One pass: the new bytes of every journal, also of the open one, with checksums. Run it by a timer, each minute
    #[command(
        after_help = "Examples:\n  snapfreeze journals ship --into /mnt/elsewhere\n  snapfreeze journals ship --json        as configured by [journals] ship_to"
    )]
    Ship {
        /// A directory on another disk; [journals] ship_to when left out
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        #[arg(long = "instance", value_name = "NAME")]
        instances: Vec<InstanceName>,
    },
    /// What is there, and up to when: the recovery point
    #[command(after_help = "Example:\n  snapfreeze journals list --into /mnt/elsewhere --verify")]
    List {
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Read every copy and compare its checksums
        #[arg(long)]
        verify: bool,
    },
}

#[derive(Args, Debug)]
pub struct Restore {
    #[command(subcommand)]
    pub of: RestoreOf,
}

#[derive(Subcommand, Debug)]
pub enum RestoreOf {
    /// The steps in their order, each with its reason, its check and its undo; changes nothing
    #[command(
        after_help = "Examples:\n  snapfreeze restore plan latest\n  snapfreeze restore plan ID --database /data/t1 --into /data/t1=/data/t1rest\n  snapfreeze restore plan ID --wij without --until backup"
    )]
    Plan(RestoreWish),
    /// Carry the plan out; what is there is kept aside, never overwritten
    #[command(
        after_help = "Killed on the way? `snapfreeze restore resume` goes on from there.\n\nExamples:\n  snapfreeze restore run latest --yes\n  snapfreeze restore run ID --database /data/t1 --yes\n  snapfreeze restore run ID --database /data/t1 --into /data/t1=/data/t1rest --online"
    )]
    Run {
        #[command(flatten)]
        wish: RestoreWish,
        /// Do not ask before the dangerous steps
        #[arg(long)]
        yes: bool,
    },
    /// Go on with the run that was interrupted, from the step at which it was
    Resume {
        #[arg(long)]
        yes: bool,
    },
    /// Give up the run that was interrupted; nothing is put back
    Abandon,
    /// Volumes made of a cloud set become a set of this host: mounted read-only, LVM imported, their files listed
    #[command(
        after_help = "`snapfreezectl restore` makes and attaches the volumes, and runs this.\n\nExample:\n  snapfreeze restore mount ID --set Z… --volume vol-0123456789abcdef0 --volume vol-0fedcba9876543210"
    )]
    Mount(MountArgs),
    /// The other way round; the volumes stay
    Unmount { id: BackupId },
}

#[derive(Args, Debug)]
pub struct MountArgs {
    pub id: BackupId,
    /// What the snapshots' tags say of the set, packed by `snapfreezectl restore`
    #[arg(long)]
    pub set: String,
    /// Each volume by its cloud name (vol-…, lun:3) or its device
    #[arg(long = "volume", value_name = "VOLUME", required = true)]
    pub volumes: Vec<String>,
}

#[derive(Args, Debug)]
pub struct RestoreWish {
    /// Backup id, or `latest`
    pub id: String,
    #[command(flatten)]
    pub place: Where,
    #[arg(long, value_name = "NAME")]
    pub instance: Option<InstanceName>,
    /// Only this database, by its directory (GT.M: its file); the whole system when left out
    #[arg(long = "database", value_name = "DIR")]
    pub databases: Vec<PathBuf>,
    /// Another directory for a database
    #[arg(long, value_name = "OLD=NEW")]
    pub into: Vec<String>,
    /// Which journals are applied: all (`end`), those of the set (`backup`), or up to a journal file's name
    #[arg(long, default_value = "end", value_name = "WHEN")]
    pub until: String,
    /// Where shipped journals lie; [journals] ship_to when left out
    #[arg(long, value_name = "DIR")]
    pub journals: Option<PathBuf>,
    /// Whole system: with the write image journal of the backup, or without one
    #[arg(long, value_enum)]
    pub wij: Option<Wij>,
    /// On a host that was not the backup's: configuration and the manager's directory too; what was installed is kept aside
    #[arg(long)]
    pub everything: bool,
    /// Leave the instance up: only for databases that no namespace shows
    #[arg(long)]
    pub online: bool,
    /// Take a set that is broken or pending: it may be torn
    #[arg(long)]
    pub even_if_not_held: bool,
}

#[derive(Args, Debug)]
pub struct Drill {
    /// Backup id, or `latest`
    #[arg(required_unless_present = "tidy")]
    pub id: Option<String>,
    #[command(flatten)]
    pub place: Where,
    #[arg(long, value_name = "NAME")]
    pub instance: Option<InstanceName>,
    /// Where the databases are restored to, in a directory that is removed at the end; [drill] dir when left out
    #[arg(long = "in", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where shipped journals lie; [journals] ship_to when left out
    #[arg(long, value_name = "DIR")]
    pub journals: Option<PathBuf>,
    /// Only tidy what a drill left that was killed
    #[arg(long, conflicts_with = "id")]
    pub tidy: bool,
}

#[derive(Args, Debug)]
pub struct SentinelArgs {
    /// Only these instances
    #[arg(long = "instance", value_name = "NAME")]
    pub instances: Vec<InstanceName>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wij {
    Backup,
    Without,
}

#[derive(Args, Debug)]
pub struct Metrics {
    /// Written to this file (renamed into place); stdout when left out
    #[arg(long, value_name = "PATH")]
    pub textfile: Option<PathBuf>,
    #[command(flatten)]
    pub place: Where,
}

#[derive(Args, Debug)]
pub struct Diagnose {
    /// Directory to make the bundle in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub to: PathBuf,
}

/// `30s`, `2min`; milliseconds.
fn duration_ms(s: &str) -> Result<u64, String> {
    let d = humantime::parse_duration(s).map_err(|_| "a time such as 30s, 1500ms or 2min".to_owned())?;
    u64::try_from(d.as_millis()).map_err(|_| "too long".into())
}

/// RFC 3339 or Unix milliseconds.
fn instant(s: &str) -> Result<WallMs, String> {
    if let Ok(ms) = s.parse::<i64>() {
        return Ok(WallMs(ms));
    }
    s.parse::<jiff::Timestamp>()
        .map(|t| WallMs(t.as_millisecond()))
        .map_err(|_| "a time such as 2026-11-25T12:00:00Z, or Unix milliseconds".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(instant("1764028800000"), Ok(WallMs(1_764_028_800_000)));
        assert_eq!(instant("2025-11-25T00:00:00Z"), Ok(WallMs(1_764_028_800_000)));
        assert!(instant("yesterday").is_err() && duration_ms("soon").is_err());
        assert_eq!(duration_ms("1500ms"), Ok(1500));
    }
}
