//! Which instances this host has, and where the files of one lie.

use super::config::IrisConfig;
use super::parse::{Listed, cpf, list, qlist, startup_last};
use super::run::Runner;
use super::{Iris, Product, files};
use crate::Error;
use doors::clock::boot_now;
use doors::exec::{Call, Output, Program};
use protocol::BootMs;
use std::path::{Path, PathBuf};

/// The registry answers from a file; an instance is not asked.
const LIST_MS: u64 = 10_000;

/// Every instance that `iris qlist`, else `iris list`, and `ccontrol qlist` name, with default settings. `dirs` are
/// looked through before the programs' usual places. An empty list: no IRIS and no Caché here.
pub fn discover_instances(dirs: &[PathBuf]) -> Result<Vec<(Product, IrisConfig)>, Error> {
    let mut found: Vec<(Product, IrisConfig)> = Vec::new();
    for product in [Product::Iris, Product::Cache] {
        let Some(program) = program_in(dirs, product) else {
            continue;
        };
        for listed in listed(&program)? {
            // Caché before 2018 and IRIS can stand in one registry; the first program to name it counts.
            let known = found.iter().any(|(_, c)| c.name.as_str().eq_ignore_ascii_case(&listed.name));
            if let (false, Ok(name)) = (known, listed.name.parse()) {
                let mut config = IrisConfig::named(name);
                config.program = Some(program.path().to_string_lossy().into_owned());
                found.push((product, config));
            }
        }
    }
    Ok(found)
}

fn program_in(dirs: &[PathBuf], product: Product) -> Option<Program> {
    let name = product.program();
    let here = |d: &Path| Program::find(&d.join(name).to_string_lossy()).ok();
    dirs.iter().find_map(|d| here(d)).or_else(|| Program::find(name).ok()).or_else(|| here(Path::new(product.registry())))
}

fn listed(program: &Program) -> Result<Vec<Listed>, Error> {
    let by = boot_now().plus(LIST_MS);
    let quick = Call::new(program, ["qlist"]).run(by, None)?;
    let all = qlist::parse(&quick.out());
    if quick.code() == Some(0) && !all.is_empty() {
        return Ok(all);
    }
    let long = Call::new(program, ["list"]).run(by, None)?;
    if long.code().is_none() {
        return Err(Error::NoAnswer { program: program.path().display().to_string(), why: "no answer to qlist and list".into() });
    }
    Ok(list::parse(&long.out()))
}

/// One instance's registry entry with the paths that follow from it.
#[derive(Clone, Debug)]
pub struct Located {
    pub listed: Listed,
    pub cpf_path: PathBuf,
    pub cpf: cpf::Cpf,
    pub mgr: PathBuf,
    pub messages: PathBuf,
    pub lock: PathBuf,
    /// From `startup.last`; `None`: the manager's directory, or as the CPF says.
    pub wij_last: Option<PathBuf>,
}

impl Iris {
    /// Asks the registry and reads the CPF; remembered for the freeze.
    pub(super) fn locate(&self, by: BootMs) -> Result<Located, Error> {
        let located = locate(&self.runner, self.product, by)?;
        *self.located.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(located.clone());
        Ok(located)
    }

    /// What the last `discover` found, or a new look.
    pub(super) fn located(&self, by: BootMs) -> Result<Located, Error> {
        let known = self.located.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        known.map_or_else(|| self.locate(by), Ok)
    }
}

fn locate(runner: &Runner, product: Product, by: BootMs) -> Result<Located, Error> {
    let listed = registry_entry(runner, by)?;
    let data = PathBuf::from(listed.data());
    let mgr = data.join("mgr");
    let cpf_name = if listed.cpf.is_empty() { format!("{}.cpf", product.word()) } else { listed.cpf.clone() };
    let cpf_path = data.join(cpf_name);
    let text = files::read(runner, &cpf_path, by).map_err(|why| Error::Unreadable { what: cpf_path.display().to_string(), why })?;
    let cpf = cpf::parse(&text);
    let messages = cpf.console().unwrap_or_else(|| mgr.join(product.console()));
    let wij_last = files::read(runner, &mgr.join("startup.last"), by).ok().and_then(|t| startup_last::parse(&t));
    Ok(Located { lock: mgr.join(product.lock()), listed, cpf_path, cpf, mgr, messages, wij_last })
}

fn registry_entry(runner: &Runner, by: BootMs) -> Result<Listed, Error> {
    type Parse = fn(&str) -> Vec<Listed>;
    let ways: [(&str, Parse); 2] = [("qlist", qlist::parse), ("list", list::parse)];
    let mut last = String::new();
    for (verb, parse) in ways {
        let output: Output = runner.iris(&[verb], by)?;
        let all = parse(&output.out());
        if let Some(l) = all.iter().find(|l| l.name.eq_ignore_ascii_case(runner.name())) {
            return Ok(l.clone());
        }
        if !all.is_empty() {
            return Err(Error::NoInstance(runner.name().into()));
        }
        last = runner.said(&output);
    }
    Err(Error::NoAnswer { program: runner.shown(&["qlist"]), why: last })
}
