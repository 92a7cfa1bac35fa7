//! `iris list`, `iris qlist`, `iris all`/`qall` in the forms of facts 3.2.

use super::{ask, out};
use crate::config::{Config, Flavor};
use crate::proto::Op;
use crate::registry::{Entry, Registry};

/// `qall` cuts its lines here and marks the cut.
const QALL_WIDTH: usize = 78;

struct Seen {
    cfg: Config,
    default: bool,
    status: String,
    /// `up`, `dn`, `st` or blank.
    short: &'static str,
    health: Option<String>,
}

fn look(entry: &Entry) -> Option<Seen> {
    let cfg = Config::load(&entry.dir).ok()?;
    let info = ask(&cfg, Op::Info);
    let field = |name: &str| info.as_ref().and_then(|i| i[name].as_str()).unwrap_or_default().to_string();
    let last = std::fs::read_to_string(cfg.dir.join("mgr/sim.last")).unwrap_or_default();
    let down = || match last.trim() {
        "" => "down".to_string(),
        at => format!("down, last used {at}"),
    };
    let (status, short, health) = match (info.is_some(), field("state").as_str()) {
        (false, _) | (true, "down") => (down(), "dn", None),
        (true, "starting") => ("starting".to_string(), "st", None),
        (true, "inhibited") => ("sign-on inhibited".to_string(), "  ", Some(field("health"))),
        (true, _) => (format!("running, since {}", field("since")), "up", Some(field("health"))),
    };
    Some(Seen { cfg, default: entry.default, status, short, health })
}

fn chosen<'a>(registry: &'a Registry, name: Option<&str>) -> Result<Vec<&'a Entry>, i32> {
    match name {
        None => Ok(registry.entries.iter().collect()),
        Some(name) => match registry.find(name) {
            Some(entry) => Ok(vec![entry]),
            None => {
                out(&not_found(name));
                Err(1)
            }
        },
    }
}

/// INVENTED: an instance that the registry does not know.
pub fn not_found(name: &str) -> String {
    format!("Instance '{}' not found\n", name.to_uppercase())
}

pub fn list(registry: &Registry, name: Option<&str>) -> i32 {
    let entries = match chosen(registry, name) {
        Ok(entries) => entries,
        Err(code) => return code,
    };
    let blocks: Vec<String> = entries.into_iter().filter_map(look).map(|seen| block(&seen)).collect();
    out(&blocks.join("\n"));
    0
}

fn block(seen: &Seen) -> String {
    let cfg = &seen.cfg;
    let dir = cfg.dir.display();
    let pad = " ".repeat(cfg.list_indent);
    let default = if seen.default { "   (default)" } else { "" };
    let mut text = format!(
        "Configuration '{}'{default}\n{pad}directory:    {dir}\n{pad}versionid:    {}\n{pad}datadir:      {dir}\n\
         {pad}conf file:    {}  (SuperServer port = {}, WebServer = {})\n{pad}status:       {}\n",
        cfg.name,
        cfg.version,
        cfg.flavor.cpf(),
        cfg.superserver,
        cfg.webserver,
        seen.status
    );
    if let (Some(kind), Some(status), Some(_)) = (&cfg.mirror_type, &cfg.mirror_status, &seen.health) {
        text += &format!("{pad}mirroring: Member Type = {kind}; Status = {status}\n");
    }
    if let Some(health) = &seen.health {
        text += &format!("{pad}state:        {health}\n");
    }
    text += &format!("{pad}product:      {}\n", cfg.product);
    text
}

pub fn qlist(registry: &Registry, name: Option<&str>) -> i32 {
    let entries = match chosen(registry, name) {
        Ok(entries) => entries,
        Err(code) => return code,
    };
    let lines: String = entries.into_iter().filter_map(look).map(|seen| qlist_line(&seen)).collect();
    out(&lines);
    0
}

fn qlist_line(seen: &Seen) -> String {
    let cfg = &seen.cfg;
    let dir = cfg.dir.display().to_string();
    let product = if cfg.flavor == Flavor::Iris { cfg.product.trim_start_matches("InterSystems ") } else { "Cache" };
    let (mirror_type, mirror_status) = match &seen.health {
        Some(_) => (cfg.mirror_type.clone().unwrap_or_default(), cfg.mirror_status.clone().unwrap_or_default()),
        None => (cfg.mirror_type.clone().unwrap_or_default(), String::new()),
    };
    let fields = [
        cfg.name.clone(),
        // 2018 samples have the slash in front of the caret, later ones not.
        dir.clone(),
        cfg.version.clone(),
        seen.status.clone(),
        cfg.flavor.cpf().to_string(),
        cfg.superserver.to_string(),
        cfg.webserver.to_string(),
        "62972".to_string(),
        seen.health.clone().unwrap_or_default(),
        product.to_string(),
        mirror_type,
        mirror_status,
        dir,
        cfg.superserver.to_string(),
    ];
    format!("{}\n", fields[..cfg.qlist_fields.clamp(8, 14)].join("^"))
}

/// `all`: columns status, name, version, port, directory; `qall` cuts to 78 characters.
/// The heading is inferred from a public script that skips two lines and cuts four columns.
pub fn all(registry: &Registry, cut: bool) -> i32 {
    let mut text = String::from("    Instance Name   Version ID         Port   Directory\n");
    text += "    -------------   ----------         ----   ---------\n";
    for seen in registry.entries.iter().filter_map(look) {
        let mark = if seen.default { '>' } else { ' ' };
        let cfg = &seen.cfg;
        let line = format!("{:<2} {mark}{:<15} {:<18} {:<6} {}", seen.short, cfg.name, cfg.version, cfg.superserver, cfg.dir.display());
        text += &match line.char_indices().nth(QALL_WIDTH) {
            Some((at, _)) if cut => format!("{}~\n", &line[..at]),
            _ => format!("{line}\n"),
        };
    }
    out(&text);
    0
}
