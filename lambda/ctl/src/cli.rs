//! The command line. Exit codes and verbs are the contract's; each verb's help has examples.

use crate::cloud::Kind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::BackupId;
use std::path::PathBuf;

#[derive(Parser, Debug)]
#[command(
    name = "snapfreezectl",
    version,
    about = "Backups of a fleet, from outside: freeze, snapshot, thaw, catalogue, retention",
    long_about = "Freezes databases on their hosts through the cloud, has their volumes snapshotted in one call, thaws them, and \
                  says whether the freeze held. Everything that it knows it reads from the snapshots' tags.\n\n\
                  A host is left frozen?  On it: sudo snapfreeze thaw",
    after_help = "Exit codes: 0 done · 1 other · 2 usage or configuration · 3 thawed, but broken; or silent ·\n\
                  4 refused, nothing frozen · 6 freeze failed, thawed · 7 snapshot failed, thawed · 8 LEFT FROZEN, act now ·\n\
                  9 cloud refused · 10 no agent · 130 interrupted, thawed.\n\
                  Of several hosts, the first that applies of 8 130 6 7 3 4 9 10 2 1 0.\n\n\
                  Examples:\n  snapfreezectl backup --policy nightly.json --dry-run\n  \
                  snapfreezectl backup --instance i-0123456789abcdef0 --hold 60s\n  \
                  snapfreezectl list --host db1\n  snapfreezectl report --policy nightly.json"
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Which cloud; when left out, AWS unless Azure's resource ids, subscription or resource group are given
    #[arg(long, global = true, env = "SNAPFREEZE_CLOUD", value_name = "CLOUD")]
    pub cloud: Option<Kind>,
    /// Azure: subscription id
    #[arg(long, global = true, value_name = "ID")]
    pub subscription: Option<String>,
    /// Azure: only this resource group's machines, and its snapshots; the whole subscription when left out
    #[arg(long, global = true, value_name = "NAME")]
    pub resource_group: Option<String>,
    /// AWS: region; as the AWS CLI finds it when left out
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// AWS: profile of the configuration
    #[arg(long, global = true, env = "AWS_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// AWS: what the names of the SSM documents begin with
    #[arg(long, global = true, hide_short_help = true, default_value = aws::ssm::DOCUMENTS, value_name = "PREFIX")]
    pub documents: String,
    /// One JSON object per line instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Freeze, snapshot, thaw, verdict: the whole job, driven from here
    #[command(after_help = "Ctrl-C thaws first. After a crash, `backup --resume ID` thaws and settles what was begun.\n\n\
                      Examples:\n  snapfreezectl backup --policy nightly.json\n  \
                      snapfreezectl backup --instance i-0123456789abcdef0 --hold 60s --no-wait\n  \
                      snapfreezectl backup --policy nightly.json --dry-run      everything up to the freeze\n  \
                      snapfreezectl --subscription S --resource-group rg1 backup --instance db1 --hold 120s      on Azure")]
    Backup(Backup),
    /// The catalogue: one line per set
    #[command(after_help = "Examples:\n  snapfreezectl list --state held --since 7d\n  \
                      snapfreezectl list --json | jq -r 'select(.type==\"set\") | .id'")]
    List(List),
    /// One set with its volumes, journals, window and tags
    Show(Show),
    /// Bring a set's volumes to a host, and restore them there: shows what would be made; makes it with --yes, restores with --run
    #[command(
        after_help = "The host has snapfreeze and the engine installed, and may be empty otherwise. Begun again, it goes on where it was.\n\n\
                      Examples:\n  snapfreezectl restore latest --host db1 --onto i-0123456789abcdef0            shows\n  \
                      snapfreezectl restore ID --onto i-0123456789abcdef0 --yes                    volumes made, attached, mounted; the host's plan\n  \
                      snapfreezectl restore ID --onto i-0123456789abcdef0 --yes --run              and restored\n  \
                      snapfreezectl --subscription S --resource-group rg1 restore ID --onto db2 --yes      on Azure"
    )]
    Restore(Restore),
    /// Keep a set whatever the retention says
    #[command(
        after_help = "Examples:\n  snapfreezectl keep ID --until 2027-01-31 --reason \"before the upgrade\"\n  snapfreezectl keep ID --drop"
    )]
    Keep(Keep),
    /// What retention would remove; removes it with --yes
    #[command(after_help = "Example:\n  snapfreezectl prune --policy nightly.json          shows\n  \
                      snapfreezectl prune --policy nightly.json --yes    deletes")]
    Prune(Prune),
    /// Sets that no backup will finish any more; marks them broken with --yes
    Reap(Reap),
    /// Per host: last held set, its age, how often backups held, how long windows were. Ends with 3 when a host is silent
    Report(Report),
    /// Is a host silent? Ends with 3 when one is
    #[command(after_help = "Example:\n  snapfreezectl watch --policy nightly.json --nagios")]
    Watch(Watch),
    /// Journals that a host shipped to a directory: into S3 or Blob, and back; what is there
    Journals(Journals),
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

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Coordinator,
    Host,
}

impl From<Holder> for coordinator::policy::HeldBy {
    fn from(h: Holder) -> Self {
        match h {
            Holder::Coordinator => Self::Coordinator,
            Holder::Host => Self::Host,
        }
    }
}

#[derive(Args, Debug)]
pub struct Backup {
    /// Policy file: JSON, as in the schedule's input
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Only these instances (EC2 instance id, Azure resource id or machine name); of a group or mirror, all of it. Without a policy,
    /// each by itself
    #[arg(long = "instance", value_name = "ID", required_unless_present_any = ["policy", "resume"])]
    pub instances: Vec<String>,
    /// How long a database may stay frozen, such as 60s; overrides the policy
    #[arg(long, value_name = "SPAN")]
    pub hold: Option<String>,
    /// Who holds the window: the coordinator (this program), or the host itself by its helper; overrides the policy. When nothing
    /// says it, the coordinator on AWS and the host on Azure
    #[arg(long, value_name = "WHO")]
    pub held_by: Option<Holder>,
    /// Do not wait until the copies are complete; what a policy does after that is left out
    #[arg(long)]
    pub no_wait: bool,
    /// Everything up to the freeze; nothing is sent that changes anything
    #[arg(long)]
    pub dry_run: bool,
    /// Go on with a backup whose process is gone: thaw first
    #[arg(long, value_name = "ID", conflicts_with_all = ["policy", "instances", "hold", "held_by", "dry_run"])]
    pub resume: Option<BackupId>,
}

#[derive(Args, Debug, Default)]
pub struct Filter {
    /// Only sets of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only sets made under the policy of this name
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Only sets in this state
    #[arg(long)]
    pub state: Option<StateWord>,
    /// Only sets since a day (2027-01-31) or within a span (30d)
    #[arg(long, value_name = "DAY")]
    pub since: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateWord {
    Held,
    Completing,
    Pending,
    Broken,
}

impl StateWord {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Completing => "completing",
            Self::Pending => "pending",
            Self::Broken => "broken",
        }
    }
}

#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Args, Debug)]
pub struct Show {
    /// Backup id, one of its snapshots, or `latest`: the newest held set
    pub id: String,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Args, Debug)]
pub struct Restore {
    /// Backup id, one of its snapshots, or `latest`: the newest held set
    pub id: String,
    /// The host that gets the volumes: EC2 instance id, Azure resource id or machine name
    #[arg(long, value_name = "HOST")]
    pub onto: String,
    /// Of a set of several hosts: the one whose volumes they are
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Make the volumes, attach and mount them
    #[arg(long)]
    pub yes: bool,
    /// And have the host restore them: databases that are there are kept aside
    #[arg(long, requires = "yes")]
    pub run: bool,
    /// The host is the backup's own, with its instance: only databases and journals are restored, not its configuration
    #[arg(long)]
    pub own_host: bool,
    /// Which journals are applied: all that are in the set or shipped (`end`), those of the set (`backup`), or up to a journal's name
    #[arg(long, default_value = "end", value_name = "WHEN")]
    pub until: String,
    /// Without the write image journal of the backup
    #[arg(long)]
    pub without_wij: bool,
    /// Take a set that is broken, partial or pending: it may be torn
    #[arg(long)]
    pub even_if_not_held: bool,
    /// EBS: load the blocks from the store at so many MiB/s (100 to 300), instead of when they are first read
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(100..=300))]
    pub rate: Option<u32>,
    /// Make other volumes than an earlier restore of the same set for the same host
    #[arg(long, value_name = "WORD")]
    pub again: Option<String>,
}

#[derive(Args, Debug)]
pub struct Keep {
    /// Backup id, or one of its snapshots
    pub id: String,
    /// Until this day (2027-01-31); for ever when left out
    #[arg(long, value_name = "DAY")]
    pub until: Option<String>,
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Do not keep it any longer
    #[arg(long, conflicts_with_all = ["until", "reason"])]
    pub drop: bool,
    /// Say what would be written, write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct Prune {
    /// Policy file: its name says which sets, its `keep` which of them stay
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Remove what was listed
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// The same as without --yes
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct Reap {
    /// Policy file, for `keep.pending`: a set that is pending for longer has lost its coordinator (1h when left out)
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Mark what was listed
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// The same as without --yes
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct Report {
    /// Policy file: only its hosts, and those that it selects and that have no set; without it, all sets there are
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Rates and windows since a day (2027-01-31) or within a span
    #[arg(long, default_value = "30d", value_name = "DAY")]
    pub since: String,
    /// A host is silent when its last held set is older; overrides the policy (26h without one)
    #[arg(long, value_name = "SPAN")]
    pub max_age: Option<String>,
}

#[derive(Args, Debug)]
pub struct Watch {
    /// Policy file
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// One line and exit codes 0–3 for Nagios
    #[arg(long, conflicts_with = "json")]
    pub nagios: bool,
}

#[derive(Args, Debug)]
pub struct Journals {
    #[command(subcommand)]
    pub of: JournalsOf,
}

#[derive(Subcommand, Debug)]
pub enum JournalsOf {
    /// One pass: what the directory has more than the bucket. Run it by a timer, on the host
    #[command(after_help = "Credentials: AWS_… or AZURE_STORAGE_… of the environment, else the machine's own role or identity.\n\n\
                      Examples:\n  snapfreezectl journals push --from /mnt/elsewhere --to s3://bucket/journals\n  \
                      snapfreezectl journals push --from /mnt/elsewhere --to az://container/journals --encrypt-to age1…")]
    Push(JournalsPush),
    /// Into a directory, from which `snapfreeze restore run --journals DIR` takes them
    #[command(
        after_help = "Example:\n  snapfreezectl journals pull --from s3://bucket/journals --into /restore/journals --identity key.txt"
    )]
    Pull(JournalsPull),
    /// Each instance's journals and its recovery point. Ends with 3 when one is older than --max-age
    List {
        #[arg(long, value_name = "URL")]
        at: String,
        #[arg(long, value_name = "SPAN")]
        max_age: Option<String>,
    },
}

#[derive(Args, Debug)]
pub struct JournalsPush {
    /// Where `snapfreeze journals ship` puts them
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// s3://bucket/prefix, az://container/prefix
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Encrypt to this public key of age (age-keygen); whoever keeps its identity can read them, this host cannot
    #[arg(long, value_name = "AGE")]
    pub encrypt_to: Vec<String>,
}

#[derive(Args, Debug)]
pub struct JournalsPull {
    #[arg(long, value_name = "URL")]
    pub from: String,
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// The identity of age, where the journals are encrypted
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
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
    fn a_backup_needs_to_be_told_of_what() {
        let parses = |words: &[&str]| Cli::try_parse_from([&["snapfreezectl", "backup"], words].concat()).is_ok();
        assert!(!parses(&[]));
        assert!(parses(&["--instance", "i-1"]) && parses(&["--policy", "p.json"]));
        assert!(parses(&["--resume", "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e"]));
        assert!(!parses(&["--resume", "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e", "--dry-run"]));
    }

    #[test]
    fn nothing_is_deleted_and_shown_at_once() {
        for verb in [vec!["prune", "--policy", "p"], vec!["reap"]] {
            let parses = |extra: &[&str]| Cli::try_parse_from([&["snapfreezectl"], &verb[..], extra].concat()).is_ok();
            assert!(parses(&["--yes"]) && parses(&["--dry-run"]) && !parses(&["--yes", "--dry-run"]));
        }
    }
}
